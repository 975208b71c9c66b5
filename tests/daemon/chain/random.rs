//! A neighbour that acts at random. EDNS_CHAIN_ROUNDS says how many rounds of pods come and go.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use super::{INGRESS, end, is_answered, is_ours, places, stats};
use crate::coexistence::{self, TC_ACT_OK, TC_ACT_UNSPEC, add_filter, remove_filter, remove_qdisc};
use crate::common::env_number;
use crate::common::rng::Rng;
use crate::lab::{Lab, RefusingServer, until};
use crate::sockets::Client;

/// A program that attaches to the interfaces, ends chains, and removes its own filters and eDNS', at random.
struct Random {
    rng: Rng,
    programs: [OwnedFd; 2],
    /// The filters that it added, by interface and handle.
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
            // All filters of the priority, eDNS' too.
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
                    assert!(self.filters.remove(&(veth, handle)).is_some(), "it removed a filter of another program");
                }
            }
            n => {
                let program = n % 2;
                if add_filter(self.programs[program].as_fd(), ifindex, INGRESS, 1, handle) == 0 {
                    assert!(self.filters.insert((veth, handle), program).is_none(), "another program removed it");
                }
            }
        }
    }
}

/// Creates pods `v0` and so on of group 7, with an address at each end.
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
fn many_pods_with_a_random_neighbour_are_answered_or_named() {
    const PODS: usize = 20;
    let rounds = env_number("EDNS_CHAIN_ROUNDS", 5);
    let lab = Lab::new();
    lab.configure("Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let _server = RefusingServer::new(&lab, "host", &["0.0.0.0"]);
    let daemon = lab.daemon_on_clsact();
    let programs = [TC_ACT_OK, TC_ACT_UNSPEC].map(coexistence::program);
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
            // Takes longer on an emulated machine.
            let named = until("every pod is answered or named", || {
                let places = places(&stats(&lab));
                let passes = |i: &usize| !is_answered(&Client::new(&lab, "pod", &format!("10.80.{i}.1")));
                let named = (0..PODS).filter(passes).map(|i| format!("v{i}")).collect::<Vec<_>>();
                let neither = named.iter().find(|veth| places.get(*veth) != Some(&false));
                neither.map_or(Ok(named.len()), |veth| Err(format!("{veth}:\n{}", daemon.log())))
            });
            (PODS - named, named)
        });
        // Being named must not be the only case.
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
        assert!(
            chain.len() == theirs && !chain.iter().any(|f| is_ours(f)),
            "v{i} has {theirs} other filters: {chain:?}"
        );
    }
    assert_eq!(lab.filters("host", "veth0"), 0);
}
