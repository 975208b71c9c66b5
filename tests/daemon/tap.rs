//! The tap interface of a virtual machine.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::common::decode::{self, Asked, Datagram};
use crate::common::packet::{ETHERNET, Packet, Query, TYPE_A};
use crate::common::tun;
use crate::frames::mac;
use crate::lab::{Lab, until};

#[test]
fn a_tap_accepts_all_frames_unless_it_is_the_uplink() {
    let lab = Lab::new();
    let tap = lab.run_in("host", || tun::open("tap0", libc::IFF_TAP));
    lab.ip("host", "addr add 10.79.0.1/24 dev tap0");
    lab.ip("host", "link set tap0 up");
    lab.configure("Ifname: tap0\nNetworkDirection: Ingress\n");
    let _daemon = lab.daemon();
    let own: Vec<u8> = mac(&lab, "tap0").split(':').map(|o| u8::from_str_radix(o, 16).unwrap()).collect();
    let to = |mac: [u8; 6]| Packet {
        dst_mac: mac,
        ..Packet::between("10.79.0.2", "10.79.0.53", &Query::new("apis.example.org", TYPE_A))
    };
    let (to_another, to_itself) = (to([2, 0, 0, 0, 0, 0x99]), to(own.try_into().unwrap()));
    assert!(replies(&tap, &to_another), "a client's own port");
    lab.ip("host", "route add default via 10.79.0.2");
    until("it is an uplink", || if replies(&tap, &to_another) { Err("answered".into()) } else { Ok(()) });
    assert!(replies(&tap, &to_itself), "to its own address");
}

/// Whether a correct reply arrives.
fn replies(tap: &OwnedFd, query: &Packet) -> bool {
    let frame = query.frame();
    nix::unistd::write(tap, &frame).unwrap();
    // The kernel sends frames of its own.
    while let Some(got) = tun::read(tap, Duration::from_secs(1)) {
        if got.len() > ETHERNET && got[..6] == frame[6..12] && Datagram::read(&got, ETHERNET).is_ok() {
            let asked = Datagram::read(&frame, ETHERNET).unwrap();
            assert!(Asked::read(&asked).is_ok());
            decode::reply(&frame, &got, ETHERNET).unwrap();
            return true;
        }
    }
    false
}
