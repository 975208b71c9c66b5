//! Frames with a virtio header: checksums and segmentation that are left to an interface.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::common::decode::{Asked, Datagram};
use crate::common::lab::Netns;
use crate::common::packet::{self, DNS, ETHERNET, IPV4, IPV6, UDP};
use crate::common::rng::Rng;
use edns::zone::node::Answer;

/// Sends frames with a virtio_net_hdr, as virtual machines do.
pub struct VnetSocket(OwnedFd);

impl VnetSocket {
    pub fn open(netns: &Netns, interface: &str) -> Self {
        let ifindex = netns.ifindex(interface);
        netns.run(|| {
            // SAFETY: no memory is passed.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            assert!(fd >= 0, "AF_PACKET: {}", io::Error::last_os_error());
            // SAFETY: nothing else owns the new file descriptor.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let on: libc::c_int = 1;
            // SAFETY: all zero is a valid sockaddr_ll.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = ifindex;
            // SAFETY: value and address live through the calls and have the sizes given.
            let ret = unsafe {
                libc::setsockopt(fd, libc::SOL_PACKET, PACKET_VNET_HDR, (&raw const on).cast(), size_of_val(&on) as u32)
                    | libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32)
            };
            assert_eq!(ret, 0, "AF_PACKET: {}", io::Error::last_os_error());
            Self(socket)
        })
    }

    pub fn send(&self, frame: &[u8], offload: Offload) -> io::Result<()> {
        nix::unistd::write(&self.0, &[&offload.head()[..], frame].concat())?;
        Ok(())
    }
}

/// What a sender leaves to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    None,
    /// To write the checksum of everything from `start` on, `offset` octets after `start`.
    Checksum {
        start: u16,
        offset: u16,
    },
    /// To complete the UDP checksum and to split the datagram into datagrams of `size` octets.
    Segments {
        start: u16,
        size: u16,
    },
}

impl Offload {
    /// A random one that the kernel accepts.
    pub fn random(rng: &mut Rng, frame: &mut [u8]) -> Self {
        let datagram = Datagram::read(frame, ETHERNET).ok().map(|d| (d.src.is_ipv4(), d.payload.len() as u16));
        let least = frame.len().div_ceil(SEGMENTS_MAX) as u16;
        match (rng.below(8), datagram) {
            (0, Some((is_v4, _))) => {
                let start = udp_at(is_v4);
                if rng.one_in(2) {
                    let sum = pseudo_checksum(frame, is_v4).to_be_bytes();
                    frame[usize::from(start + UDP_CHECKSUM)..][..2].copy_from_slice(&sum);
                }
                Self::Checksum { start, offset: UDP_CHECKSUM }
            }
            (1, Some((is_v4, payload))) if payload > least => {
                let size = least + rng.below(usize::from(payload - least)) as u16;
                Self::Segments { start: udp_at(is_v4), size }
            }
            // Not before the earliest end of an IP header that the kernel assumes.
            (2, _) if frame.len() > IPV4 + 1 => {
                let start = (IPV4 + rng.below(frame.len() - IPV4 - 1)) as u16;
                Self::Checksum { start, offset: rng.below(frame.len() - usize::from(start) - 1) as u16 }
            }
            _ => Self::None,
        }
    }

    /// Whether a query may be answered with a frame of this length.
    pub fn lets_answer(self, query: &[u8], len: usize) -> bool {
        match self {
            Self::None => true,
            // The kernel doesn't trim a packet before that place.
            Self::Checksum { start, offset } => {
                start == udp_at(query[12..14] == [8, 0]) && offset == UDP_CHECKSUM || len > query.len()
            }
            Self::Segments { .. } => false,
        }
    }

    pub fn gso_size(self) -> u32 {
        if let Self::Segments { size, .. } = self { size.into() } else { 0 }
    }

    /// virtio_net_hdr
    fn head(self) -> [u8; 10] {
        let (flags, gso_type, size, start, offset) = match self {
            Self::None => (0, 0, 0, 0, 0),
            Self::Checksum { start, offset } => (NEEDS_CSUM, 0, 0, start, offset),
            Self::Segments { start, size } => (NEEDS_CSUM, GSO_UDP_L4, size, start, UDP_CHECKSUM),
        };
        let [size, start, offset] = [size, start, offset].map(u16::to_ne_bytes);
        [flags, gso_type, 0, 0, size[0], size[1], start[0], start[1], offset[0], offset[1]]
    }
}

const PACKET_VNET_HDR: libc::c_int = 15;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM
const NEEDS_CSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_UDP_L4
const GSO_UDP_L4: u8 = 5;
/// UDP_MAX_SEGMENTS
const SEGMENTS_MAX: usize = 128;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: u16 = 6;

/// Offset of a frame's UDP header.
pub const fn udp_at(is_v4: bool) -> u16 {
    (ETHERNET + if is_v4 { IPV4 } else { IPV6 }) as u16
}

/// The checksum of a datagram's pseudo-header, in host byte order.
pub fn pseudo_checksum(frame: &[u8], is_v4: bool) -> u16 {
    let udp = usize::from(udp_at(is_v4));
    let addresses = if is_v4 { 8 } else { 32 };
    packet::sum(&[&frame[udp - addresses..udp], &[0, 17], &frame[udp + 4..udp + 6]])
}

/// Makes the kernel segment what a socket sends into datagrams of `size` octets (UDP_SEGMENT); 0 ends that.
pub fn set_segment(socket: &UdpSocket, size: u16) {
    let size = libc::c_int::from(size);
    // SAFETY: the value lives through the call and has the size given.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as u32,
        )
    };
    assert_eq!(ret, 0, "UDP_SEGMENT: {}", io::Error::last_os_error());
}

/// Octets of the frame that answers a query with this answer.
pub fn reply_len(asked: &Asked<'_>, answer: &Answer, query: &[u8]) -> usize {
    let opt = if asked.opt.is_some() { 11 } else { 0 };
    usize::from(udp_at(query[12..14] == [8, 0])) + UDP + DNS + asked.question.len() + answer.bytes.len() + opt
}
