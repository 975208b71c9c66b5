//! In a chain with programs of others that come, go, insist and take away. On clsact, where what comes later goes first; the
//! daemon is kept from tcx where the kernel has it. EDNS_CHAIN_ROUNDS says how often many pods come and go.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::beside::{self, TC_ACT_OK, TC_ACT_UNSPEC, add_filter, remove_filter, remove_qdisc};
use crate::common::env_number;
use crate::common::packet::{Query, TYPE_A};
use crate::common::rng::Rng;
use crate::lab::{Daemon, Lab, SERVER, until, within};
use crate::sockets::{Client, Reply, Server};

const CONFIG: &str = "Ifname: veth0\nNetworkDirection: Ingress\n";
const INGRESS: u32 = libbpf_sys::BPF_TC_INGRESS;
/// A minute after which a move is tried again, and what a slow machine adds.
const TRIED_AGAIN: u64 = 120;

/// A neighbour in the chain of veth0.
struct Neighbour<'a> {
    lab: &'a Lab,
    program: OwnedFd,
}

impl<'a> Neighbour<'a> {
    fn new(lab: &'a Lab, verdict: i32) -> Self {
        Self { lab, program: beside::program(verdict) }
    }

    /// In front of those of the priority.
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

/// Whether eDNS answers, and not the server behind it.
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

/// What `edns stats --json` says.
fn stats(lab: &Lab) -> Value {
    let output = lab.edns(&["stats", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// Whether ours is first, by interface.
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

/// The chain of veth0, once it has settled so.
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

/// Asks all the while that something is done. Returns how often each query was answered by eDNS, or passed.
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

/// Each query that is asked while something is done has to be answered by eDNS.
fn while_asking(client: &Client, work: impl FnOnce()) {
    let [answered, passed] = asking_while(|| is_answered(client), work);
    assert!(answered > 0 && passed == 0, "{answered} answered, {passed} passed");
}

#[test]
fn ours_moves_in_front_of_what_comes_later_without_a_gap() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = Server::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    // One that ends the chain.
    Neighbour::new(&lab, TC_ACT_OK).add(1, 1);
    until_answered(&client);
    until_chain(&lab, "ours, then the other", |c| c.len() == 2 && is_ours(&c[0]) && c[1].contains(" handle 0x1 "));
    assert!(daemon.log().contains("veth0: moved to the front of the chain, before other"), "{}", daemon.log());
    // One that leaves packets to the next shows whether ours is there at every moment.
    let patient = Neighbour::new(&lab, TC_ACT_UNSPEC);
    while_asking(&client, || {
        patient.add(1, 2);
        until_chain(&lab, "moved again", |c| c.len() == 3 && is_ours(&c[0]) && c[1].contains(" handle 0x2 "));
    });
    assert_eq!(daemon.log().matches("moved to the front").count(), 2, "{}", daemon.log());
    until_first(&lab, 10, true);
    end(daemon);
    until_chain(&lab, "theirs alone", |c| c.len() == 2 && !c.iter().any(|f| is_ours(f)));
}

/// Puts a filter in front again and again, until ours is let be.
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
fn one_who_insists_is_let_be_and_named() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = Server::new(&lab, "host", &[SERVER]);
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
fn against_one_who_insists_it_is_tried_again_each_minute() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = Server::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    insist(&lab, &daemon);
    // And then nobody contends.
    within(TRIED_AGAIN, "an answer", || if is_answered(&client) { Ok(()) } else { Err(daemon.log()) });
    until_first(&lab, 10, true);
    assert_eq!(daemon.log().matches("moved to the front").count(), 4, "{}", daemon.log());
    assert_eq!(daemon.log().matches("not first in the chain").count(), 1, "{}", daemon.log());
}

#[test]
fn a_filter_of_a_lower_priority_is_named_and_goes_unmoved() {
    let lab = Lab::new();
    lab.configure(&format!("{CONFIG}TcPriority: 3\n"));
    let daemon = lab.daemon_on_clsact();
    let neighbour = Neighbour::new(&lab, TC_ACT_OK);
    neighbour.add(2, 1);
    daemon.wait_for("not first in the chain");
    let stats = until_first(&lab, 10, false);
    assert_eq!(stats["interfaces"][0]["in_front"][0]["priority"], 2);
    // Behind ours it is nobody's concern.
    neighbour.add(4, 1);
    neighbour.remove(2, 1);
    daemon.wait_for("veth0: first in the chain again");
    until_first(&lab, 10, true);
    assert!(!daemon.log().contains("moved"), "{}", daemon.log());
}

/// Whoever adds or deletes a qdisc, clsact too, has the kernel stop the queues of the interface for a moment and drop what is
/// sent out by it (`qdisc_graft`, `noop_qdisc`), whether eDNS is there or not. So the reply of a server on this host may be lost;
/// no query is, nor an answer of eDNS, which goes into the pod without those queues.
#[test]
fn what_others_take_away_comes_back_as_often_as_they_do_and_no_query_is_lost() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let server = Server::new(&lab, "host", &[SERVER]);
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

/// Takes away all filters, the qdisc, and once more all filters, which then takes its time.
fn take_away(lab: &Lab, daemon: &Daemon) {
    let scripts = ["filter del dev veth0 ingress", "qdisc del dev veth0 clsact", "filter del dev veth0 ingress"];
    for (i, script) in scripts.into_iter().enumerate() {
        lab.sh("host", &format!("tc {script}"));
        until("gone and back", || match daemon.log().matches("veth0: attached").count() {
            n if n == i + 2 => Ok(()),
            _ => Err(daemon.log()),
        });
        assert_eq!(daemon.log().matches("veth0: detached").count(), i + 1, "{}", daemon.log());
    }
    lab.sh("host", "tc qdisc del dev veth0 clsact");
    until("said so", || {
        let text = String::from_utf8(lab.edns(&["stats"]).stdout).unwrap();
        if text.contains("not attached: veth0: taken away again and again") { Ok(()) } else { Err(text) }
    });
    until("back for good", || match daemon.log().matches("veth0: attached").count() {
        5 => Ok(()),
        _ => Err(daemon.log()),
    });
}

#[test]
fn lost_messages_lose_no_filter() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = Server::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon_on_clsact();
    until_answered(&client);
    daemon.signal(Signal::SIGSTOP);
    // More messages than a socket's buffer takes; the last one is of what matters.
    lab.write("flood", &"qdisc add dev lo clsact\nqdisc del dev lo clsact\n".repeat(400));
    lab.sh("host", "tc -batch flood");
    lab.sh("host", "tc filter del dev veth0 ingress");
    assert!(lab.has_lost_messages());
    daemon.signal(Signal::SIGCONT);
    until_answered(&client);
    end(daemon);
    assert_eq!(lab.filters("host", "veth0"), 0);
}

/// Ends a daemon in this way so many microseconds after another's filter came in front, when it looks and moves: nothing of it is
/// left.
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

/// A move adds a filter in front and then removes the one behind: wherever a kill comes, the next start finds both.
#[test]
fn a_kill_in_a_move_leaves_nothing_that_the_next_start_does_not_take() {
    end_in_moves(0..20_000, |lab, mut daemon| {
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        let next = lab.daemon_on_clsact();
        until_chain(lab, "one filter of ours", |c| c.iter().filter(|f| is_ours(f)).count() == 1);
        end(next);
    });
}

/// A look begins 10 ms after a change.
#[test]
fn an_end_in_a_move_leaves_no_filter() {
    end_in_moves(8_000..16_000, |_, daemon| end(daemon));
}

/// Two daemons of one config, as in a hand-over, the older one killed; it was on veth1, too, where nobody is now.
fn killed_in_a_hand_over(lab: &Lab) -> Daemon {
    lab.veth(("host", "veth1"), ("pod", "eth1"));
    lab.configure("Ifname: [veth0, veth1]\nNetworkDirection: Ingress\n");
    let mut old = lab.daemon_on_clsact();
    // It does not follow the config any more.
    old.signal(Signal::SIGSTOP);
    lab.configure(CONFIG);
    let new = lab.daemon_on_clsact();
    assert_eq!(["veth0", "veth1"].map(|name| lab.filters("host", name)), [2, 1], "a living daemon's stay");
    old.signal(Signal::SIGKILL);
    old.wait();
    new
}

#[test]
fn an_end_leaves_no_filter_of_one_that_was_killed_in_a_hand_over() {
    let lab = Lab::new();
    end(killed_in_a_hand_over(&lab));
    assert_eq!(["veth0", "veth1"].map(|name| lab.filters("host", name)), [0, 0]);
}

#[test]
fn the_filter_of_one_that_was_killed_in_a_hand_over_goes_without_a_gap() {
    let lab = Lab::new();
    let _server = Server::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = killed_in_a_hand_over(&lab);
    while_asking(&client, || until_chain(&lab, "the living one's", |c| c.len() == 1 && is_ours(&c[0])));
    assert!(!daemon.log().contains("moved"), "{}", daemon.log());
}

#[test]
fn another_edns_in_front_is_no_cause_to_move() {
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
        // What makes the first one look.
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
fn on_tcx_one_in_front_is_told_and_nothing_is_moved() {
    let lab = Lab::new();
    lab.configure(CONFIG);
    let _server = Server::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let daemon = lab.daemon();
    until_answered(&client);
    let in_front = || beside::in_front_on_tcx(if_nametoindex("veth0").unwrap() as i32, TC_ACT_OK);
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

/// Takes over while pods come: the old daemon neither takes a filter back nor takes away the new one's.
#[test]
fn at_a_handover_pods_that_come_in_between_stay_answered() {
    const ROUNDS: usize = 8;
    let lab = Lab::new();
    lab.configure("Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let _server = Server::new(&lab, "host", &["0.0.0.0"]);
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

/// A neighbour that attaches to the interfaces, ends chains, and takes away its own and ours, at random.
struct Random {
    rng: Rng,
    programs: [OwnedFd; 2],
    /// Its own filters, by interface and handle.
    filters: BTreeMap<(String, u32), usize>,
}

impl Random {
    fn act(&mut self, pods: usize) {
        let veth = format!("v{}", self.rng.below(pods));
        let Ok(ifindex) = if_nametoindex(veth.as_str()) else { return };
        let ifindex = ifindex as i32;
        let handle = 1 + self.rng.below(4) as u32;
        match self.rng.below(20) {
            0 => {
                remove_qdisc(ifindex);
                self.filters.retain(|(name, _), _| *name != veth);
            }
            // All of the priority, whoever's.
            1 => {
                let all = std::process::Command::new("tc")
                    .args(["filter", "del", "dev", &veth, "ingress", "pref", "1"])
                    .output();
                if all.is_ok_and(|o| o.status.success()) {
                    self.filters.retain(|(name, _), _| *name != veth);
                }
            }
            2..6 => {
                if remove_filter(ifindex, INGRESS, 1, handle) == 0 {
                    assert!(self.filters.remove(&(veth, handle)).is_some(), "somebody else's");
                }
            }
            n => {
                let program = n % 2;
                if add_filter(self.programs[program].as_fd(), ifindex, INGRESS, 1, handle) == 0 {
                    assert!(self.filters.insert((veth, handle), program).is_none(), "somebody took it away");
                }
            }
        }
    }
}

/// Pods `v0` and so on of group 7, with an address at either end.
fn add_pods(lab: &Lab, pods: usize) {
    let ns = lab.ns("pod");
    let host =
        |i| format!("link add v{i} group 7 up type veth peer name e{i} netns {ns}\naddr add 10.80.{i}.1/24 dev v{i}\n");
    let pod = |i| format!("link set e{i} up\naddr add 10.80.{i}.2/24 dev e{i}\n");
    lab.write("host.batch", &(0..pods).map(host).collect::<String>());
    lab.write("pod.batch", &(0..pods).map(pod).collect::<String>());
    lab.sh("host", "ip -batch host.batch");
    lab.sh("pod", "ip -batch pod.batch");
}

#[test]
fn many_pods_under_a_random_neighbour_are_answered_or_named() {
    const PODS: usize = 20;
    let rounds = env_number("EDNS_CHAIN_ROUNDS", 5);
    let lab = Lab::new();
    lab.configure("Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let _server = Server::new(&lab, "host", &["0.0.0.0"]);
    let daemon = lab.daemon_on_clsact();
    let programs = [TC_ACT_OK, TC_ACT_UNSPEC].map(beside::program);
    let mut neighbour = Random { rng: Rng::new(rounds), programs, filters: BTreeMap::new() };
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let (answered, named) = std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                lab.run_in("host", || {
                    while !stop.load(Ordering::Relaxed) {
                        neighbour.act(PODS);
                        sleep(Duration::from_millis(2));
                    }
                });
            });
            add_pods(&lab, PODS);
            sleep(Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
            acting.join().unwrap();
            sleep(Duration::from_secs(2));
            // Longer on an emulated machine.
            let named = until("every pod is answered or named", || {
                let places = places(&stats(&lab));
                let passes = |i: &usize| !is_answered(&Client::new(&lab, "pod", &format!("10.80.{i}.1")));
                let named = (0..PODS).filter(passes).map(|i| format!("v{i}")).collect::<Vec<_>>();
                let neither = named.iter().find(|veth| places.get(*veth) != Some(&false));
                neither.map_or(Ok(named.len()), |veth| Err(format!("{veth}:\n{}", daemon.log())))
            });
            (PODS - named, named)
        });
        // Not all by being named.
        assert!(answered > 0, "round {round}: {named} named");
        for i in 0..PODS {
            let theirs = neighbour.filters.keys().filter(|(veth, _)| *veth == format!("v{i}")).count();
            let chain = lab.chain("host", &format!("v{i}"));
            assert_eq!(chain.iter().filter(|f| !is_ours(f)).count(), theirs, "{chain:?}");
            assert_eq!(chain.iter().filter(|f| is_ours(f)).count(), 1, "{chain:?}");
        }
        if round + 1 < rounds {
            lab.sh("host", "ip link del group 7");
            neighbour.filters.clear();
        }
    }
    end(daemon);
    for i in 0..PODS {
        let theirs = neighbour.filters.keys().filter(|(veth, _)| *veth == format!("v{i}")).count();
        let chain = lab.chain("host", &format!("v{i}"));
        assert!(chain.len() == theirs && !chain.iter().any(|f| is_ours(f)), "v{i} has {theirs} of theirs: {chain:?}");
    }
    assert_eq!(lab.filters("host", "veth0"), 0);
}
