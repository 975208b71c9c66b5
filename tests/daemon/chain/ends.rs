//! Daemons that exit, are killed or hand over while filters move.

use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{CONFIG, Neighbour, end, is_ours, until_chain, while_asking};
use crate::coexistence::TC_ACT_UNSPEC;
use crate::common::rng::Rng;
use crate::lab::{Daemon, Lab, RefusingServer, SERVER};
use crate::sockets::Client;

/// Ends a daemon in this way some microseconds after another filter came in front of eDNS', while the daemon notices that and
/// moves its filter. No filter may stay.
fn end_in_moves(after: Range<usize>, end_it: impl Fn(&Lab, Daemon)) {
    const ROUNDS: u64 = 12;
    let lab = Lab::new();
    lab.configure(CONFIG);
    let neighbour = Neighbour::new(&lab, TC_ACT_UNSPEC);
    let mut rng = Rng::new(ROUNDS);
    for round in 0..ROUNDS {
        let daemon = lab.daemon_on_clsact();
        neighbour.add(1, 0x100);
        sleep(Duration::from_micros((after.start + rng.below(after.len())) as u64));
        end_it(&lab, daemon);
        neighbour.remove(1, 0x100);
        assert_eq!(lab.filters("host", "veth0"), 0, "round {round}");
    }
}

/// A move adds a filter in front and then removes the one behind. A kill at any moment leaves filters that the next start
/// finds.
#[test]
fn filters_that_a_kill_in_a_move_leaves_are_removed_by_the_next_start() {
    end_in_moves(0..20_000, |lab, mut daemon| {
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        let next = lab.daemon_on_clsact();
        until_chain(lab, "one filter of ours", |c| c.iter().filter(|f| is_ours(f)).count() == 1);
        end(next);
    });
}

/// The daemon checks the chain 10 ms after a change.
#[test]
fn an_exit_in_a_move_leaves_no_filter() {
    end_in_moves(8_000..16_000, |_, daemon| end(daemon));
}

/// Two daemons of one config, as in a hand-over, of which the older one is killed. It was also attached to veth1, where the
/// newer one is not.
fn killed_in_a_hand_over(lab: &Lab) -> Daemon {
    lab.veth(("host", "veth1"), ("pod", "eth1"));
    lab.configure("Ifname: [veth0, veth1]\nNetworkDirection: Ingress\n");
    let mut old = lab.daemon_on_clsact();
    // A stopped daemon doesn't follow changes of the config.
    old.signal(Signal::SIGSTOP);
    lab.configure(CONFIG);
    let new = lab.daemon_on_clsact();
    assert_eq!(["veth0", "veth1"].map(|name| lab.filters("host", name)), [2, 1], "filters of a running daemon stay");
    old.signal(Signal::SIGKILL);
    old.wait();
    new
}

#[test]
fn an_exit_leaves_no_filter_of_a_daemon_that_was_killed_in_a_hand_over() {
    let lab = Lab::new();
    end(killed_in_a_hand_over(&lab));
    assert_eq!(["veth0", "veth1"].map(|name| lab.filters("host", name)), [0, 0]);
}

#[test]
fn the_filter_of_a_daemon_killed_in_a_hand_over_is_removed_without_a_gap() {
    let lab = Lab::new();
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = killed_in_a_hand_over(&lab);
    while_asking(&client, || until_chain(&lab, "the running daemon's filter", |c| c.len() == 1 && is_ours(&c[0])));
    assert!(!daemon.log().contains("moved"), "{}", daemon.log());
}

/// A hand-over while pods come: the old daemon neither restores its own filters nor removes the new one's.
#[test]
fn at_a_handover_pods_that_come_in_between_stay_answered() {
    const ROUNDS: usize = 8;
    let lab = Lab::new();
    lab.configure("Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let _server = RefusingServer::new(&lab, "host", &["0.0.0.0"]);
    let mut old = lab.daemon_on_clsact();
    let client = Client::new(&lab, "pod", SERVER);
    for round in 1..=ROUNDS {
        let (veth, eth) = (format!("v{round}"), format!("eth{round}"));
        while_asking(&client, || {
            let new = lab.daemon_on_clsact();
            lab.veth(("host", &veth), ("pod", &eth));
            lab.ip("host", &format!("addr add 10.80.{round}.1/24 dev {veth}"));
            lab.ip("pod", &format!("addr add 10.80.{round}.2/24 dev {eth}"));
            new.wait_for(&format!("{veth}: attached"));
            let pod = Client::new(&lab, "pod", &format!("10.80.{round}.1"));
            while_asking(&pod, || {
                end(std::mem::replace(&mut old, new));
                sleep(Duration::from_millis(200));
            });
        });
        for veth in ["veth0", &veth] {
            assert_eq!(lab.chain("host", veth).len(), 1, "one filter on {veth}");
        }
        assert!(!old.log().contains("detached"), "{}", old.log());
    }
    end(old);
    for veth in ["veth0", "v1", "v8"] {
        assert_eq!(lab.filters("host", veth), 0);
    }
}
