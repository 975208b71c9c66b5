//! An interface with a qdisc of kind `ingress`. It has one block of filters and excludes clsact.

use nix::sys::signal::Signal;

use crate::common::packet::{Query, TYPE_A};
use crate::lab::{Daemon, Lab, RefusingServer, SERVER, until};
use crate::sockets::{Client, Reply};

/// An address that no host has, routed to veth0.
const NOWHERE: &str = "192.0.2.53";
const ANSWER: &str = "172.16.171.52";
const WHY: &str = "veth0: its qdisc is of kind ingress";

/// A host whose processes eDNS answers, and whose DNS server the pod asks.
fn lab() -> Lab {
    let lab = Lab::new();
    // A pattern: an interface that Ifname names has to be attached to at the start.
    lab.configure("Ifname: 'veth*'\nNetworkDirection: Egress\n");
    lab.ip("host", "route add default via 10.77.0.2");
    lab
}

fn end(mut daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
}

fn stats(lab: &Lab) -> String {
    String::from_utf8(lab.edns(&["stats"]).stdout).unwrap()
}

fn until_unattached(lab: &Lab) {
    until("reported as not attached", || {
        let stats = stats(lab);
        if stats.contains(&format!("not attached: {WHY}")) { Ok(()) } else { Err(stats) }
    });
}

/// Asserts that queries of the pod reach the server.
fn assert_passes(lab: &Lab, client: &Client) {
    assert_eq!(lab.filters("host", "veth0"), 0);
    let reply = client.ask(&Query::new("apis.example.org", TYPE_A));
    assert!(matches!(reply, Ok(Reply::Server)), "{reply:?}");
}

fn answer(lab: &Lab) -> String {
    lab.dig_in("host", &format!("@{NOWHERE} +short apis.example.org"))
}

#[test]
fn egress_is_attached_only_after_a_qdisc_of_kind_ingress_is_removed() {
    let lab = lab();
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    lab.sh("host", "tc qdisc add dev veth0 ingress");
    let daemon = lab.daemon_on_clsact();
    daemon.wait_for(WHY);
    assert!(daemon.log().contains("(`tc qdisc del dev veth0 ingress`)"), "{}", daemon.log());
    until_unattached(&lab);
    assert_passes(&lab, &client);

    lab.sh("host", "tc qdisc del dev veth0 ingress");
    daemon.wait_for("veth0: attached");
    assert_eq!(answer(&lab), ANSWER);
    assert!(!stats(&lab).contains("not attached"));
    end(daemon);
}

#[test]
fn clsact_that_another_program_replaces_by_ingress_is_not_restored() {
    const ROUNDS: usize = 50;
    let lab = lab();
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    assert_eq!(answer(&lab), ANSWER);
    // The daemon's clsact may be added in between.
    let replace =
        "until tc qdisc add dev veth0 ingress 2>/dev/null; do tc qdisc del dev veth0 clsact 2>/dev/null || true; done";
    lab.sh("host", replace);
    until_unattached(&lab);
    assert_passes(&lab, &client);
    lab.sh("host", "tc qdisc del dev veth0 ingress");
    until("an answer", || if answer(&lab) == ANSWER { Ok(()) } else { Err(daemon.log()) });

    // At any moment while the daemon reads or restores its filters.
    let round = "qdisc del dev veth0 clsact\nqdisc add dev veth0 ingress\nqdisc del dev veth0 ingress\nqdisc add dev veth0 clsact\n";
    lab.write("flap", &(round.repeat(ROUNDS) + "qdisc del dev veth0 clsact\nqdisc add dev veth0 ingress\n"));
    lab.sh("host", "tc -force -batch flap 2>/dev/null || true");
    lab.sh("host", &format!("tc qdisc del dev veth0 ingress 2>/dev/null || true; {replace}"));
    until_unattached(&lab);
    assert_passes(&lab, &client);
    end(daemon);
    assert_eq!(lab.sh("host", "tc qdisc show dev veth0 ingress").matches("qdisc ingress").count(), 1);
}

#[test]
fn ingress_uses_an_existing_qdisc_of_kind_ingress_and_leaves_it() {
    let lab = Lab::new();
    lab.sh("host", "tc qdisc add dev veth0 ingress");
    let daemon = lab.daemon_on_clsact();
    assert_eq!(lab.dig(&format!("@{SERVER} +short apis.example.org")), ANSWER);
    end(daemon);
    assert_eq!(lab.filters("host", "veth0"), 0);
    assert_eq!(lab.sh("host", "tc qdisc show dev veth0 ingress").matches("qdisc ingress").count(), 1);
}
