//! Frames into an interface that a program is attached to, and all that comes out: replies, and what passed.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use crate::common::raw::{RawSocket, Received};

/// How long a frame may take through two veth pairs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Octets of a `struct virtio_net_hdr` (`linux/virtio_net.h`).
const VIRTIO_NET_HDR: usize = 10;
/// The ethertype and the IP protocol for experiments (IEEE 802, RFC 3692) of the frame that ends a batch.
const ETH_EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const IP_EXPERIMENT: u8 = 253;
/// Octets that tell that frame from random ones.
const MAGIC: [u8; 8] = *b"the last";

/// How the kernel refuses a frame: a header that does not fit, more than the MTU, more than that of the veth's other end, and segments
/// that it can't make.
const REFUSALS: [i32; 4] = [libc::EINVAL, libc::EMSGSIZE, libc::ENOBUFS, libc::ENOMEM];

/// A frame to send.
#[derive(Clone)]
pub struct Frame {
    /// What the sender's kernel has to know of checksum and segments (PACKET_VNET_HDR); a tun has no such header.
    pub offload: [u8; VIRTIO_NET_HDR],
    /// With Ethernet header. A tun gets what follows that.
    pub octets: Vec<u8>,
}

/// What became of a batch, in the order in which it came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    pub replies: Vec<Received>,
    pub passed: Vec<Received>,
    /// Numbers of the frames that the kernel did not take from the sender.
    pub refused: Vec<usize>,
}

/// The ends of an interface.
pub enum Wire {
    Ethernet {
        sender: Sender,
        replies: RawSocket,
        behind: RawSocket,
    },
    /// File descriptors of two tun interfaces.
    Ip {
        near: OwnedFd,
        behind: OwnedFd,
    },
}

impl Wire {
    /// Sends a batch and waits until all of it has gone through. A frame at the end of the batch passes and comes out last: the kernel
    /// handles the frames of one processor in order.
    pub fn exchange(&self, frames: &[Frame]) -> Outputs {
        let last = self.last();
        let refused = self.send(frames);
        assert!(self.send(std::slice::from_ref(&last)).is_empty(), "the kernel refuses the last frame");
        let mut outputs = Outputs { refused, ..Outputs::default() };
        let end = Instant::now() + PATIENCE;
        let at = loop {
            let from = outputs.passed.len();
            outputs.passed.extend(self.passed());
            let is_last = |passed: &Received| passed.octets == self.sent(&last);
            if let Some(at) = outputs.passed[from..].iter().position(is_last) {
                break from + at;
            }
            assert!(Instant::now() < end, "a frame that passes does not come out");
            self.wait();
        };
        outputs.passed.remove(at);
        outputs.replies = self.replies();
        outputs
    }

    /// The octets that this kind of interface sends of a frame.
    pub fn sent<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        match self {
            Self::Ethernet { .. } => &frame.octets,
            Self::Ip { .. } => frame.octets.get(ETHERNET..).unwrap_or_default(),
        }
    }

    fn last(&self) -> Frame {
        let mut octets = [&[2, 0, 0, 0, 0, 0x53, 2, 0, 0, 0, 0, 7], &ETH_EXPERIMENT[..]].concat();
        if matches!(self, Self::Ip { .. }) {
            octets[12..].copy_from_slice(&[8, 0]);
            octets.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 1, IP_EXPERIMENT, 0, 0, 192, 0, 2, 7, 192, 0, 2, 53]);
        }
        octets.extend(MAGIC);
        Frame { offload: [0; VIRTIO_NET_HDR], octets }
    }

    /// Returns the numbers of those that the kernel refuses.
    fn send(&self, frames: &[Frame]) -> Vec<usize> {
        match self {
            Self::Ethernet { sender, .. } => sender.send(frames),
            Self::Ip { near, .. } => {
                let is_refused = |i: &usize| nix::unistd::write(near, self.sent(&frames[*i])).is_err();
                (0..frames.len()).filter(is_refused).collect()
            }
        }
    }

    fn replies(&self) -> Vec<Received> {
        match self {
            Self::Ethernet { replies, .. } => replies.received(),
            Self::Ip { near, .. } => read_all(near),
        }
    }

    fn passed(&self) -> Vec<Received> {
        match self {
            Self::Ethernet { behind, .. } => behind.received(),
            Self::Ip { behind, .. } => read_all(behind),
        }
    }

    /// Waits a moment for what passes.
    fn wait(&self) {
        let fd = match self {
            Self::Ethernet { behind, .. } => behind.as_fd(),
            Self::Ip { behind, .. } => behind.as_fd(),
        };
        let mut fd = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which lives through the call.
        unsafe { libc::poll(&raw mut fd, 1, 100) };
    }
}

const ETHERNET: usize = 14;

/// The packets that a tun sent so far; its file descriptor does not block.
fn read_all(tun: &OwnedFd) -> Vec<Received> {
    let mut octets = vec![0; 65_536];
    let next = || match nix::unistd::read(tun, &mut octets) {
        Ok(len) => Some(Received { octets: octets[..len].to_vec(), checksum_pending: false }),
        Err(nix::Error::EAGAIN) => None,
        Err(e) => panic!("tun: {e}"),
    };
    std::iter::from_fn(next).collect()
}

/// A packet socket that takes frames with a `struct virtio_net_hdr` and receives none.
pub struct Sender(OwnedFd);

impl Sender {
    /// On an interface of the calling thread's namespace.
    pub fn bind(ifindex: i32) -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened.
        let sender = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        let on = 1;
        // SAFETY: the value lives through the call and has the size given.
        let set = unsafe {
            let (value, len) = ((&raw const on).cast(), size_of_val(&on) as u32);
            libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, value, len)
        };
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex;
        // SAFETY: the address lives through the call and has the size given.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) };
        if set < 0 || bound < 0 { Err(io::Error::last_os_error()) } else { Ok(sender) }
    }

    fn send(&self, frames: &[Frame]) -> Vec<usize> {
        let part = |octets: &[u8]| libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        let mut parts: Vec<_> = frames.iter().map(|f| [part(&f.offload), part(&f.octets)]).collect();
        let message = |parts: &mut [libc::iovec; 2]| {
            // SAFETY: all zero is a valid mmsghdr.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            message.msg_hdr.msg_iov = parts.as_mut_ptr();
            message.msg_hdr.msg_iovlen = parts.len();
            message
        };
        let mut messages: Vec<_> = parts.iter_mut().map(message).collect();
        let (mut refused, mut at) = (Vec::new(), 0);
        while at < messages.len() {
            let left = &mut messages[at..];
            // SAFETY: messages, their parts and frames live through the call; the kernel only reads frames.
            let sent = unsafe { libc::sendmmsg(self.0.as_raw_fd(), left.as_mut_ptr(), left.len() as u32, 0) };
            if sent > 0 {
                at += sent as usize;
                continue;
            }
            match io::Error::last_os_error() {
                e if REFUSALS.contains(&e.raw_os_error().unwrap_or(0)) => refused.push(at),
                e => panic!("AF_PACKET: {e}"),
            }
            at += 1;
        }
        refused
    }
}
