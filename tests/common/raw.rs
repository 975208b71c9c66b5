//! Sends and receives whole frames on an interface (AF_PACKET).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::lab::Netns;

const FRAME_MAX: usize = 65_536;

/// A frame that the interface received.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// With its VLAN tag in place, also if the kernel held the tag outside of the frame.
    pub octets: Vec<u8>,
    /// The checksum is not complete: the sender left it to an interface.
    pub checksum_pending: bool,
}

pub struct RawSocket(OwnedFd);

impl RawSocket {
    pub fn open(netns: &Netns, interface: &str) -> Self {
        let ifindex = netns.ifindex(interface);
        netns.run(|| Self::bind(ifindex)).unwrap_or_else(|e| panic!("AF_PACKET on {interface}: {e}"))
    }

    /// On an interface of the calling thread's namespace.
    pub fn bind(ifindex: i32) -> io::Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no memory is passed. bind sets the protocol, so that no frame of another interface arrives before.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: nothing else owns the new file descriptor.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)?;
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = ifindex;
        // SAFETY: the address lives through the call and has the size given.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) })?;
        Ok(socket)
    }

    fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        // SAFETY: the value lives through the call and has the size given.
        check(unsafe {
            libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const value).cast(), size_of_val(&value) as u32)
        })?;
        Ok(())
    }

    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        nix::unistd::write(&self.0, frame)?;
        Ok(())
    }

    /// Sends a frame with another protocol than its header has. The sending kernel parses the headers by that protocol.
    pub fn send_as(&self, protocol: u16, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&address) as u32;
        // SAFETY: address and length live through the call.
        check(unsafe { libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
        address.sll_protocol = protocol.to_be();
        // SAFETY: frame and address live through the call and have the sizes given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame that `wanted` accepts; None if none arrives in time.
    pub fn receive(&self, timeout: Duration, wanted: impl Fn(&Received) -> bool) -> Option<Received> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut fd = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, which lives through the call.
            if unsafe { libc::poll(&raw mut fd, 1, left.as_millis().try_into().expect("short")) } <= 0 {
                return None;
            }
            let frame = self.read(0).expect("AF_PACKET");
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// All frames that were received so far.
    pub fn received(&self) -> Vec<Received> {
        let next = || match self.read(libc::MSG_DONTWAIT) {
            Ok(frame) => Some(frame),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Err(e) => panic!("AF_PACKET: {e}"),
        };
        std::iter::from_fn(next).collect()
    }

    fn read(&self, flags: i32) -> io::Result<Received> {
        let mut octets = vec![0; FRAME_MAX];
        let mut control = [0_u64; 16];
        let mut vector = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: octets.len() };
        // SAFETY: all zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: all buffers live through the call and have the sizes given.
        let len = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, flags) };
        if len < 0 {
            return Err(io::Error::last_os_error());
        }
        octets.truncate(len as usize);
        octets.shrink_to_fit();
        let mut received = Received { octets, checksum_pending: false };
        // SAFETY: the kernel filled in the control messages that msg_controllen covers.
        let mut head = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        while !head.is_null() {
            // SAFETY: a control message within the buffer; PACKET_AUXDATA's data is one tpacket_auxdata.
            unsafe {
                if (*head).cmsg_level == libc::SOL_PACKET && (*head).cmsg_type == libc::PACKET_AUXDATA {
                    let mut aux = MaybeUninit::<libc::tpacket_auxdata>::uninit();
                    std::ptr::copy_nonoverlapping(libc::CMSG_DATA(head), aux.as_mut_ptr().cast(), size_of_val(&aux));
                    received.note(&aux.assume_init());
                }
                head = libc::CMSG_NXTHDR(&raw const message, head);
            }
        }
        Ok(received)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Received {
    fn note(&mut self, aux: &libc::tpacket_auxdata) {
        self.checksum_pending = aux.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0;
        if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 && self.octets.len() >= 12 {
            let tag = [aux.tp_vlan_tpid.to_be_bytes(), aux.tp_vlan_tci.to_be_bytes()].concat();
            self.octets.splice(12..12, tag);
        }
    }
}

fn check(ret: i32) -> io::Result<i32> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}
