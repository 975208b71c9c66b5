//! A chain with other programs that come, go, insist on the first place and remove filters. On clsact, where later filters
//! come first; the daemon runs without tcx even if the kernel has it.

mod ends;
mod random;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::coexistence::{self, TC_ACT_OK, TC_ACT_UNSPEC, add_filter, remove_filter};
use crate::common::packet::{Query, TYPE_A};
use crate::lab::{Daemon, Lab, RefusingServer, SERVER, until, within};
use crate::sockets::{Client, Reply};

const CONFIG: &str = "Ifname: veth0\nNetworkDirection: Ingress\n";
const INGRESS: u32 = libbpf_sys::BPF_TC_INGRESS;
/// Seconds until a move is tried again (a minute), with reserve for a slow machine.
const TRIED_AGAIN: u64 = 120;

/// Another program in the chain of veth0.
struct Neighbour<'a> {
    lab: &'a Lab,
    program: OwnedFd,
}

impl<'a> Neighbour<'a> {
    fn new(lab: &'a Lab, verdict: i32) -> Self {
        Self { lab, program: coexistence::program(verdict) }
    }

    /// Adds it in front of the filters of the priority.
    fn add(&self, priority: u32, handle: u32) {
        let add =
            || add_filter(self.program.as_fd(), if_nametoindex("veth0").unwrap() as i32, INGRESS, priority, handle);
        assert_eq!(self.lab.run_in("host", add), 0, "adding a filter");
    }

    fn remove(&self, priority: u32, handle: u32) {
        let remove = || remove_filter(if_nametoindex("veth0").unwrap() as i32, INGRESS, priority, handle);
        assert_eq!(self.lab.run_in("host", remove), 0, "removing a filter");
    }
}

/// Whether eDNS answers, not the server behind it.
fn is_answered(client: &Client) -> bool {
    match client.ask(&Query::new("apis.example.org", TYPE_A)) {
        Ok(Reply::Edns(..)) => true,
        Ok(Reply::Server) => false,
        Err(e) => panic!("{e}"),
    }
}

fn until_answered(client: &Client) {
    until("an answer", || if is_answered(client) { Ok(()) } else { Err("passed".into()) });
}

/// The output of `edns stats --json`.
fn stats(lab: &Lab) -> Value {
    let output = lab.edns(&["stats", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// Whether eDNS' program is first, by interface.
fn places(stats: &Value) -> BTreeMap<String, bool> {
    let of = |i: &Value| (i["name"].as_str().unwrap().to_owned(), i["is_first"].as_bool().unwrap());
    stats["interfaces"].as_array().unwrap().iter().map(of).collect()
}

fn until_first(lab: &Lab, seconds: u64, is_first: bool) -> Value {
    within(seconds, if is_first { "first" } else { "not first" }, || {
        let stats = stats(lab);
        if places(&stats) == BTreeMap::from([("veth0".into(), is_first)]) { Ok(stats) } else { Err(stats.to_string()) }
    })
}

fn is_ours(filter: &str) -> bool {
    filter.contains(" edns_")
}

/// Waits until the chain of veth0 is like this.
fn until_chain(lab: &Lab, what: &str, is_so: impl Fn(&[String]) -> bool) {
    until(what, || {
        let chain = lab.chain("host", "veth0");
        if is_so(&chain) { Ok(()) } else { Err(format!("{chain:?}")) }
    });
}

fn end(mut daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
}

/// Asks while something is done. Returns how many queries eDNS answered, and how many passed.
fn asking_while(is_answered: impl Fn() -> bool + Sync, work: impl FnOnce()) -> [u64; 2] {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut counts = [0, 0];
            while !stop.load(Ordering::Relaxed) {
                counts[usize::from(!is_answered())] += 1;
            }
            counts
        });
        let stop = Stop(&stop);
        work();
        drop(stop);
        asking.join().unwrap()
    })
}

/// Every query that is asked while something is done has to be answered by eDNS.
fn while_asking(client: &Client, work: impl FnOnce()) {
    let [answered, passed] = asking_while(|| is_answered(client), work);
    assert!(answered > 0 && passed == 0, "{answered} answered, {passed} passed");
}

#[test]
fn our_filter_moves_in_front_of_later_ones_without_a_gap() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    // A program that ends the chain.
    Neighbour::new(&lab, TC_ACT_OK).add(1, 1);
    until_answered(&client);
    until_chain(&lab, "ours, then the other", |c| c.len() == 2 && is_ours(&c[0]) && c[1].contains(" handle 0x1 "));
    assert!(daemon.log().contains("veth0: moved to the front of the chain, before other"), "{}", daemon.log());
    // A program that passes packets on: every query shows whether eDNS' filter is attached.
    let passing = Neighbour::new(&lab, TC_ACT_UNSPEC);
    while_asking(&client, || {
        passing.add(1, 2);
        until_chain(&lab, "moved again", |c| c.len() == 3 && is_ours(&c[0]) && c[1].contains(" handle 0x2 "));
    });
    assert_eq!(daemon.log().matches("moved to the front").count(), 2, "{}", daemon.log());
    until_first(&lab, 10, true);
    end(daemon);
    until_chain(&lab, "only the other filters", |c| c.len() == 2 && !c.iter().any(|f| is_ours(f)));
}

/// Puts a filter in front again and again, until the daemon leaves it there.
fn insist(lab: &Lab, daemon: &Daemon) {
    let neighbour = Neighbour::new(lab, TC_ACT_OK);
    for handle in 1..=3 {
        neighbour.add(1, handle);
        until_chain(lab, "ours in front", |c| is_ours(&c[0]));
    }
    neighbour.add(1, 4);
    daemon.wait_for("veth0: not first in the chain: other");
    assert_eq!(daemon.log().matches("moved to the front").count(), 3, "{}", daemon.log());
}

#[test]
fn a_program_that_insists_stays_first_and_is_named() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    insist(&lab, &daemon);
    let stats = until_first(&lab, 10, false);
    assert!(!is_answered(&client));
    let in_front = &stats["interfaces"][0]["in_front"];
    assert!(in_front.as_array().unwrap().len() == 1 && in_front[0]["id"].as_u64().unwrap() > 0, "{in_front}");
    assert!(in_front[0]["name"].as_str().unwrap().starts_with("other") && in_front[0]["priority"] == 1, "{in_front}");
    let text = String::from_utf8(lab.edns(&["stats"]).stdout).unwrap();
    let wanted = format!(" id {} priority 1 may keep queries from eDNS", in_front[0]["id"]);
    assert!(text.contains("\nnot first in the chain on veth0: other") && text.contains(&wanted), "{text}");
}

#[test]
fn against_a_program_that_insists_it_is_tried_again_each_minute() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    insist(&lab, &daemon);
    // From now on no other filter is added.
    within(TRIED_AGAIN, "an answer", || if is_answered(&client) { Ok(()) } else { Err(daemon.log()) });
    until_first(&lab, 10, true);
    assert_eq!(daemon.log().matches("moved to the front").count(), 4, "{}", daemon.log());
    assert_eq!(daemon.log().matches("not first in the chain").count(), 1, "{}", daemon.log());
}

#[test]
fn a_filter_of_a_lower_priority_is_named_and_nothing_moves() {
    let lab = Lab::new();
    lab.configure(&format!("{CONFIG}TcPriority: 3\n"));
    let daemon = lab.daemon_on_clsact();
    let neighbour = Neighbour::new(&lab, TC_ACT_OK);
    neighbour.add(2, 1);
    daemon.wait_for("not first in the chain");
    let stats = until_first(&lab, 10, false);
    assert_eq!(stats["interfaces"][0]["in_front"][0]["priority"], 2);
    // A filter behind eDNS' is ignored.
    neighbour.add(4, 1);
    neighbour.remove(2, 1);
    daemon.wait_for("veth0: first in the chain again");
    until_first(&lab, 10, true);
    assert!(!daemon.log().contains("moved"), "{}", daemon.log());
}

/// When a qdisc, clsact too, is added or deleted, the kernel stops the queues of the interface for a moment and drops packets
/// that are sent by it (`qdisc_graft`, `noop_qdisc`), with and without eDNS. The reply of a server on this host may be lost.
/// No query is lost, nor an answer of eDNS, which reaches the pod without those queues.
#[test]
fn removed_filters_come_back_each_time_and_no_query_is_lost() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let server = RefusingServer::new(&lab, "host", &[SERVER]);
    let ask = || {
        let reply = Client::new(&lab, "pod", SERVER).ask_one_way(&Query::new("apis.example.org", TYPE_A), &server);
        matches!(reply.unwrap_or_else(|e| panic!("{e}")), Reply::Edns(..))
    };
    let daemon = lab.daemon_on_clsact();
    let [answered, passed] = asking_while(ask, || take_away(&lab, &daemon));
    assert!(answered > 0, "{passed} passed");
    assert_eq!([lab.count("answered"), server.asked()], [answered, passed]);
    until("an answer", || if ask() { Ok(()) } else { Err("passed".into()) });
    end(daemon);
    assert_eq!(lab.filters("host", "veth0"), 0);
}

/// Removes all filters, the qdisc, and all filters once more, after which the daemon waits.
fn take_away(lab: &Lab, daemon: &Daemon) {
    let scripts = ["filter del dev veth0 ingress", "qdisc del dev veth0 clsact", "filter del dev veth0 ingress"];
    for (i, script) in scripts.into_iter().enumerate() {
        lab.sh("host", &format!("tc {script}"));
        until("detached and attached again", || match daemon.log().matches("veth0: attached").count() {
            n if n == i + 2 => Ok(()),
            _ => Err(daemon.log()),
        });
        assert_eq!(daemon.log().matches("veth0: detached").count(), i + 1, "{}", daemon.log());
    }
    lab.sh("host", "tc qdisc del dev veth0 clsact");
    until("stats report it", || {
        let text = String::from_utf8(lab.edns(&["stats"]).stdout).unwrap();
        if text.contains("not attached: veth0: removed repeatedly") { Ok(()) } else { Err(text) }
    });
    until("attached again", || match daemon.log().matches("veth0: attached").count() {
        5 => Ok(()),
        _ => Err(daemon.log()),
    });
}

#[test]
fn lost_netlink_messages_lose_no_filter() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    until_answered(&client);
    daemon.signal(Signal::SIGSTOP);
    // More messages than the socket's buffer has room for. The last one is about the filter.
    lab.write("flood", &"qdisc add dev lo clsact\nqdisc del dev lo clsact\n".repeat(400));
    lab.sh("host", "tc -batch flood");
    lab.sh("host", "tc filter del dev veth0 ingress");
    assert!(lab.has_lost_messages());
    daemon.signal(Signal::SIGCONT);
    until_answered(&client);
    end(daemon);
    assert_eq!(lab.filters("host", "veth0"), 0);
}

#[test]
fn another_edns_in_front_is_no_reason_to_move() {
    for on_clsact in [true, false] {
        let lab = Lab::new();
        lab.configure(CONFIG);
        lab.write("other.yaml", &std::fs::read_to_string(lab.path("config.yaml")).unwrap());
        let start = |config| if on_clsact { lab.spawn_on_clsact(config) } else { lab.spawn("host", config) };
        let first = start("config.yaml");
        first.wait_for("ready");
        let second = start("other.yaml");
        second.wait_for("ready");
        if on_clsact {
            until_chain(&lab, "both", |c| c.len() == 2 && c.iter().all(|f| is_ours(f)));
        }
        // A change that makes the first daemon check its chain.
        lab.veth(("host", "veth1"), ("pod", "eth1"));
        sleep(Duration::from_millis(500));
        until_first(&lab, 10, true);
        assert!(!first.log().contains("moved") && !first.log().contains("not first"), "{}", first.log());
        assert!(!second.log().contains("moved") && !second.log().contains("not first"), "{}", second.log());
        end(second);
        end(first);
    }
}

#[test]
fn on_tcx_a_program_in_front_is_reported_and_nothing_moves() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon();
    until_answered(&client);
    let in_front = || coexistence::in_front_on_tcx(if_nametoindex("veth0").unwrap() as i32, TC_ACT_OK);
    let Some(link) = lab.run_in("host", in_front) else {
        assert_eq!(lab.tcx_programs("host", "veth0"), 0, "a kernel without tcx");
        return;
    };
    daemon.wait_for("veth0: not first in the chain: program ");
    let stats = until_first(&lab, 10, false);
    assert!(stats["interfaces"][0]["in_front"][0]["id"].as_u64().unwrap() > 0, "{stats}");
    assert!(!is_answered(&client) && lab.tcx_programs("host", "veth0") == 2);
    let text = String::from_utf8(lab.edns(&["stats"]).stdout).unwrap();
    assert!(text.contains("\nnot first in the chain on veth0: program id "), "{text}");
    drop(link);
    daemon.wait_for("veth0: first in the chain again");
    until_answered(&client);
    assert!(!daemon.log().contains("moved"), "{}", daemon.log());
}
