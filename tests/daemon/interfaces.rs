//! Interfaces as they come, go and change.

use crate::lab::{Lab, until};

fn attached(lab: &Lab) -> Vec<String> {
    let output = lab.edns(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = stats["attached_interfaces"].as_array().unwrap();
    let mut names: Vec<String> = names.iter().map(|n| n.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn until_attached(lab: &Lab, wanted: &[&str]) {
    until(&format!("attached to {wanted:?}"), || {
        let names = attached(lab);
        if names == wanted { Ok(()) } else { Err(format!("{names:?}")) }
    });
}

#[test]
fn globs_and_pods_are_attached_as_they_appear_and_forgotten_as_they_vanish() {
    let mut lab = Lab::new();
    lab.add("pod2");
    lab.write("config.yaml", "Ifname: 'cali*, @pods'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    until_attached(&lab, &["veth0"]);
    lab.veth(("host", "cali1"), ("host", "peer1"));
    until_attached(&lab, &["cali1", "veth0"]);
    lab.veth(("host", "any"), ("pod2", "eth0"));
    until_attached(&lab, &["any", "cali1", "veth0"]);
    lab.ip("host", "addr add 10.79.0.1/24 dev any");
    lab.ip("pod2", "addr add 10.79.0.2/24 dev eth0");
    assert_eq!(lab.dig_in("pod2", "@10.79.0.1 +short apis.example.org"), "172.16.171.52");
    lab.ip("host", "link del any");
    lab.ip("host", "link set cali1 down");
    lab.ip("host", "link set cali1 name tap1");
    until_attached(&lab, &["veth0"]);
    assert!(daemon.log().contains("any: detached"), "{}", daemon.log());
}

#[test]
fn a_named_interface_may_go_and_come_back() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    lab.ip("host", "link del veth0");
    until_attached(&lab, &[]);
    lab.veth(("host", "veth0"), ("pod", "eth0"));
    until_attached(&lab, &["veth0"]);
}

#[test]
fn many_pods_at_once_are_all_attached_and_none_is_kept() {
    let lab = Lab::new();
    lab.write("config.yaml", "Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    let ns = lab.ns("pod");
    let batch = |f: &dyn Fn(u32) -> String| (0..100).map(f).collect::<String>();
    lab.write("add", &batch(&|i| format!("link add v{i} type veth peer name e{i} netns {ns}\n")));
    lab.write("del", &batch(&|i| format!("link del v{i}\n")));
    for _ in 0..3 {
        lab.sh("host", "ip -batch add");
        until("all are attached", || match attached(&lab).len() {
            101 => Ok(()),
            n => Err(n.to_string()),
        });
        lab.sh("host", "ip -batch del");
        until_attached(&lab, &["veth0"]);
    }
    drop(daemon);
}

#[test]
fn ingress_on_a_physical_interface_for_everybody_is_warned_of() {
    let lab = Lab::new();
    // The nearest to a physical interface that a namespace can have.
    lab.ip("host", "link add link veth0 name mac0 type macvlan");
    lab.write("config.yaml", "Ifname: mac0\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    assert!(daemon.log().contains("name your DNS servers in DnsServers"), "{}", daemon.log());
}
