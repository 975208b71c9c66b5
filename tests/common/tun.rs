//! tun and tap interfaces, and their other end.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;

/// Creates an interface of a kind (`IFF_TUN`, `IFF_TAP`) in the network namespace of the thread. It exists as long as the
/// file descriptor is open.
pub fn open(name: &str, kind: libc::c_int) -> OwnedFd {
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    assert!(fd >= 0, "/dev/net/tun: {}", std::io::Error::last_os_error());
    // SAFETY: nothing else owns the new file descriptor.
    let tun = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as i16;
    // SAFETY: one ifreq, which lives through the call.
    let ret = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &raw mut request) };
    assert!(ret >= 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
    tun
}

/// The next packet that the kernel sends by it; None if none arrives in time.
pub fn read(tun: &OwnedFd, timeout: Duration) -> Option<Vec<u8>> {
    let mut fd = libc::pollfd { fd: tun.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives through the call.
    if unsafe { libc::poll(&raw mut fd, 1, timeout.as_millis() as i32) } <= 0 {
        return None;
    }
    let mut packet = vec![0; 65_536];
    let len = nix::unistd::read(tun, &mut packet).expect("tun");
    packet.truncate(len);
    Some(packet)
}
