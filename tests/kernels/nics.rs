//! Network cards of the guest on one hub of QEMU: each sees the frames of the others.

use std::process::Command;

use crate::frames;
use crate::lab::{Lab, run};

#[test]
fn a_third_host_ignores_frames_that_a_switch_floods() {
    let mut lab = Lab::new();
    lab.add("far");
    lab.ip("host", "link del veth0");
    for (card, ns) in [("eth0", "host"), ("eth1", "pod"), ("eth2", "far")] {
        run(Command::new("ip").args(["link", "set", card, "netns", lab.ns(ns)]));
        if card != "eth0" {
            lab.ip(ns, &format!("link set {card} name eth0"));
        }
        lab.ip(ns, "link set eth0 up");
    }
    lab.ip("host", "link add br0 address 02:00:00:00:00:b0 type bridge");
    lab.ip("host", "link set eth0 master br0");
    lab.ip("host", "link set br0 up");
    lab.ip("pod", "addr add 10.77.0.2/24 dev eth0");
    lab.ip("pod", "addr add fd77::2/64 dev eth0 nodad");
    frames::address(&lab);
    frames::ignores_frames_for_others(&lab);
}
