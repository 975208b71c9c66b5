//! Queries that leave the host: of its own processes, and of containers behind its NAT.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;

/// Addresses that no host has, routed to veth0.
const NOWHERE: &str = "192.0.2.53";
const NOWHERE6: &str = "2001:db8::53";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname:\nNetworkDirection: Egress\n");
    lab.ip("host", "route add default via 10.77.0.2");
    lab.ip("host", "-6 route add default via fd77::2");
    lab
}

#[test]
fn a_local_process_gets_its_answer_whatever_the_checksum_offload() {
    let lab = lab();
    let daemon = lab.daemon();
    assert!(daemon.log().contains("veth0: attached"), "the default route's interface: {}", daemon.log());
    for tx in ["on", "off"] {
        lab.sh("host", &format!("ethtool -K veth0 tx {tx}"));
        for server in [NOWHERE, NOWHERE6] {
            assert_eq!(lab.dig_in("host", &format!("@{server} +short apis.example.org")), "172.16.171.52", "tx {tx}");
            assert_eq!(
                lab.dig_in("host", &format!("@{server} +short +noedns db.example.org AAAA")),
                "fd00::5",
                "tx {tx}"
            );
        }
    }
}

/// A container behind a bridge and NAT.
fn container(lab: &mut Lab) {
    lab.add("container");
    lab.veth(("host", "c0"), ("container", "eth0"));
    lab.ip("host", "link add br0 type bridge");
    lab.ip("host", "link set c0 master br0");
    lab.ip("host", "link set br0 up");
    lab.ip("host", "addr add 172.30.0.1/24 dev br0");
    lab.ip("container", "addr add 172.30.0.2/24 dev eth0");
    lab.ip("container", "route add default via 172.30.0.1");
    lab.ip("host", "addr add fd30::1/64 dev br0 nodad");
    lab.ip("container", "addr add fd30::2/64 dev eth0 nodad");
    lab.ip("container", "-6 route add default via fd30::1");
    lab.netns("host").sysctl("net/ipv4/ip_forward", "1");
    lab.netns("host").sysctl("net/ipv6/conf/all/forwarding", "1");
    lab.nft("host", include_str!("nat.nft"));
}

#[test]
fn a_container_behind_nat_gets_its_answer() {
    let mut lab = lab();
    container(&mut lab);
    let _daemon = lab.daemon();
    for server in [NOWHERE, NOWHERE6] {
        assert_eq!(lab.dig_in("container", &format!("@{server} +short apis.example.org")), "172.16.171.52");
    }
    assert_eq!(lab.count("answered"), 2);
}

/// Containers whose uplink is chosen by a mark: answers to them must not be routed by that mark.
#[test]
fn a_container_with_a_route_by_mark_gets_its_answer() {
    let mut lab = lab();
    container(&mut lab);
    lab.nft("host", include_str!("mark.nft"));
    lab.ip("host", "rule add fwmark 7 lookup 100");
    lab.ip("host", "route add default via 10.77.0.2 table 100");
    lab.ip("host", "-6 rule add fwmark 7 lookup 100");
    lab.ip("host", "-6 route add default via fd77::2 table 100");
    let _daemon = lab.daemon();
    for server in [NOWHERE, NOWHERE6] {
        for question in ["apis.example.org", "apis.example.org +noedns +nocookie", "APIS.example.org"] {
            assert_eq!(lab.dig_in("container", &format!("@{server} +short {question}")), "172.16.171.52");
        }
    }
    assert_eq!(lab.count("answered"), 6);
}

#[test]
fn the_interface_of_the_default_route_is_followed() {
    let mut lab = lab();
    lab.add("other");
    lab.veth(("host", "uplink1"), ("other", "eth0"));
    lab.ip("host", "addr add 10.78.0.1/24 dev uplink1");
    let daemon = lab.daemon();
    lab.ip("host", "route replace default via 10.78.0.2");
    daemon.wait_for("uplink1: attached");
    daemon.wait_for("veth0: detached");
    lab.ip("host", "neigh add 10.78.0.2 lladdr 02:00:00:00:00:01 dev uplink1");
    assert_eq!(lab.dig_in("host", &format!("@{NOWHERE} +short apis.example.org")), "172.16.171.52");
}

#[test]
fn a_clone_answers_with_its_own_configs_and_no_options() {
    let lab = lab();
    // A clone of the repository, made here because a daemon may run from the real one.
    let configs = lab.path("configs");
    std::fs::create_dir(&configs).unwrap();
    for file in ["config.yaml", "domain.yaml"] {
        let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(file);
        std::fs::copy(from, configs.join(file)).unwrap();
    }
    let mut daemon = lab
        .command("host", crate::lab::EDNS)
        .current_dir(&lab.dir)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::lab::until("an answer", || match lab.dig_in("host", "@9.9.9.9 +short apis.example.org") {
        a if a == "172.16.171.52" => Ok(()),
        other => Err(other),
    });
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}
