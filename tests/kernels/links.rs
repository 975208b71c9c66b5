//! Interfaces that come and go.

use crate::common::packet::{Query, TYPE_A};
use crate::lab;
use crate::lab::until;
use crate::sockets::{Client, Reply};

#[test]
fn pods_are_attached_when_they_come_and_detached_when_they_go() {
    let mut lab = lab("Ifname: '@pods'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    for i in 0..3 {
        let (pod, veth) = (format!("pod{i}"), format!("new{i}"));
        lab.add(&pod);
        lab.veth(("host", &veth), (&pod, "eth0"));
        daemon.wait_for(&format!("{veth}: attached"));
        lab.ip("host", &format!("addr add 10.80.{i}.1/24 dev {veth}"));
        lab.ip(&pod, &format!("addr add 10.80.{i}.2/24 dev eth0"));
        let client = Client::new(&lab, &pod, &format!("10.80.{i}.1"));
        let reply = client.ask(&Query::new("apis.example.org", TYPE_A));
        assert!(matches!(reply, Ok(Reply::Edns(..))), "{reply:?}");
        lab.ip("host", &format!("link set {veth} down"));
        lab.ip("host", &format!("link set {veth} name other{i}"));
        daemon.wait_for(&format!("{veth}: renamed to other{i}"));
        lab.ip("host", &format!("link del other{i}"));
        daemon.wait_for(&format!("other{i}: detached"));
    }
    // The lab's own interface is still attached.
    until("one interface", || {
        let stats = String::from_utf8_lossy(&lab.edns(&["stats"]).stdout).into_owned();
        if stats.lines().next().is_some_and(|l| l.ends_with("on veth0")) { Ok(()) } else { Err(stats) }
    });
}
