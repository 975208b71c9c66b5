//! More names than the maps hold, while names come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use hickory_proto::rr::RecordType::{A, AAAA, SRV};
use serde_json::{Value, json};

use crate::api;
use crate::changes::never_missing;
use crate::cluster::Cluster;
use crate::lab::{Daemon, within};
use crate::node::Node;

fn services(range: std::ops::Range<usize>, port: usize) -> String {
    let service = |i| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{ports: [{{name: p, port: {port}}}]}}\n---\n"
        )
    };
    range.map(service).collect()
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("s{i}.default.svc.cluster.local")).collect()
}

#[test]
fn no_existing_name_is_answered_nxdomain() {
    let cluster = Arc::new(Cluster::new());
    cluster.apply(&services(0..20, 80));
    let node = Node::new(&cluster);
    let mut daemon = node.daemon();
    let stats: serde_json::Value = serde_json::from_slice(&node.lab.edns(&["stats", "--json"]).stdout).unwrap();
    let held = stats["records"].as_u64().unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();

    // A Service has three names: those of ten Services don't fit.
    node.configure(&format!("MaxRecords: {}\n", held - 30));
    let daemon = node.daemon();
    node.until_log(&daemon, 10, "MaxRecords");
    let client = node.pod();
    let living = names(0..20);
    never_missing(&client, &living, || {
        for round in 0..4 {
            cluster.apply(&services(0..40, 81 + round));
            let others: Vec<String> = (20 + round..40).map(|i| format!("service/s{i}")).collect();
            cluster.delete(&others.iter().map(String::as_str).collect::<Vec<_>>());
        }
    });
    assert_eq!(node.lab.counts(&["nxdomain"]), 0);
    // Reverse names and port names are withheld. The other names and negative answers are answered.
    let stats: serde_json::Value = serde_json::from_slice(&node.lab.edns(&["stats", "--json"]).stdout).unwrap();
    assert!(stats["refused_records"].as_u64() > Some(0), "{stats}");
    node.until_negative_answers_are(&client, 20, true);

    // Names that fit again are answered; so are negative answers.
    let some: Vec<String> = (8..23).map(|i| format!("service/s{i}")).collect();
    cluster.delete(&some.iter().map(String::as_str).collect::<Vec<_>>());
    node.until_negative_answers_are(&client, 20, true);
    for name in names(0..8) {
        assert!(node.ask(&client, &name, A).1, "{name}");
    }
    node.until_rcode(&client, 10, "s10.default.svc.cluster.local", "NXDomain");
}

/// Ports of each Service that fills the maps. The default of MaxRecords is meant for 8,000; the other sizes follow from this.
fn ports() -> usize {
    std::env::var("EDNS_FULL_PORTS").map_or(800, |n| n.parse().expect("a number"))
}

/// Services that fill the maps.
const LARGE: usize = 33;
/// Namespaces of other tenants.
const TEAMS: usize = 100;

fn team(i: usize) -> String {
    format!("team-{}", i % TEAMS)
}

fn small(i: usize) -> Value {
    json!({"kind": "Service", "metadata": {"name": format!("small-{i}"), "namespace": team(i)},
        "spec": {"ports": [{"name": "http", "port": 80}]}})
}

fn large(i: usize) -> Value {
    let port = |port| json!({"name": format!("p{port}"), "port": port});
    json!({"kind": "Service", "metadata": {"name": format!("large-{i}"), "namespace": "greedy"},
        "spec": {"ports": (1..=ports()).map(port).collect::<Vec<_>>()}})
}

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": name}})
}

fn stats(node: &Node) -> Value {
    serde_json::from_slice(&node.lab.edns(&["stats", "--json"]).stdout).expect("JSON")
}

/// The names in the maps. Names with an asterisk answer for names below them.
fn held(node: &Node) -> BTreeSet<String> {
    let text = node.lab.edns(&["records", "--json"]).stdout;
    let records: Vec<Value> = serde_json::from_slice(&text).expect("JSON");
    records.iter().map(|r| r["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_namespace_that_fills_the_maps_has_names_withheld_and_no_other_has() {
    let ports = ports();
    let others = ports * 5 / 8;
    let cluster = Arc::new(Cluster::new());
    let teams = (0..TEAMS).map(|i| namespace(&team(i))).chain([namespace("greedy")]).collect();
    api::create(&cluster, &[teams, (0..others).map(small).collect()]);
    let node = Node::new(&cluster);
    let capacity = 262_144 * ports / 8_000;
    node.configure(&format!("MaxRecords: {capacity}\n"));
    let mut daemon = node.daemon();
    let client = node.pod();
    // Other namespaces lose nothing: names, port names and negative answers.
    let in_kernel = |name: &str, rtype, rcode: &str| {
        within(60, &format!("{name} {rtype} is {rcode} in the kernel"), || match node.ask(&client, name, rtype) {
            (reply, true) if reply.rcode == rcode => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    let others_are_answered = |count: usize| {
        for i in 0..count {
            let name = format!("small-{i}.{}.svc.cluster.local", team(i));
            in_kernel(&name, A, "NoError");
            in_kernel(&name, AAAA, "NoError");
            in_kernel(&format!("_http._tcp.{name}"), SRV, "NoError");
        }
        for i in 0..TEAMS {
            in_kernel(&format!("nobody.{}.svc.cluster.local", team(i)), A, "NXDomain");
        }
        for name in ["www.example.org.team-0.svc.cluster.local", "www.example.org.svc.cluster.local"] {
            in_kernel(name, AAAA, "NXDomain");
        }
        in_kernel("any.apps.example.org", A, "NoError");
    };
    others_are_answered(others);
    let before = held(&node);

    api::create(&cluster, &[(0..LARGE).map(large).collect()]);
    let full = |what: &str| {
        within(60, what, || match stats(&node)["holders"][0].clone() {
            first if first["namespace"] == "greedy" && first["passing"].as_u64() > Some(0) => Ok(()),
            first => Err(first.to_string()),
        });
    };
    full("names of the greedy namespace are withheld");
    others_are_answered(others);
    // A new name of another namespace.
    api::create(&cluster, &[vec![small(others)]]);
    others_are_answered(others + 1);
    // Withheld names get the server's answer or the kernel's; never a wrong one.
    for i in 0..LARGE {
        for name in [format!("large-{i}"), format!("_p{ports}._tcp.large-{i}"), format!("_no._tcp.large-{i}")] {
            let name = format!("{name}.greedy.svc.cluster.local");
            let rcode = if name.starts_with("_no") { "NXDomain" } else { "NoError" };
            assert_eq!(client.rcode(&name, SRV), rcode, "{name}");
        }
    }
    let said = |daemon: &Daemon| daemon.log().lines().filter(|l| l.contains("greedy") && l.contains("share")).count();
    assert_eq!(said(&daemon), 1, "{}", daemon.log());
    let holds = held(&node);
    let lost: Vec<&String> = before.difference(&holds).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let names = holds.iter().filter(|name| !name.starts_with("*.")).count();
    assert!(names <= capacity && names > capacity / 8 * 7, "{names} of {capacity}");
    println!("{names} of {capacity} names held, {}", stats(&node)["holders"][0]);

    // Another daemon reads everything at once. It holds the same names except for the margin at the limit.
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
    let daemon = node.daemon();
    full("names of the greedy namespace are withheld after a restart");
    others_are_answered(others + 1);
    let again = held(&node);
    let differ = holds.symmetric_difference(&again).count();
    println!("{differ} names differ after a restart");
    assert!(again.is_superset(&before) && differ <= capacity / 16, "{differ}");

    // The large Services are deleted, and everything is as before.
    let all: Vec<String> = (0..LARGE).map(|i| format!("service/large-{i}")).collect();
    cluster.delete(&["-n", "greedy"].into_iter().chain(all.iter().map(String::as_str)).collect::<Vec<_>>());
    within(60, "no name is withheld", || match stats(&node) {
        stats if stats["refused_records"] == 0 && held(&node).len() == before.len() + 4 => Ok(()),
        stats => Err(stats.to_string()),
    });
    in_kernel("large-0.greedy.svc.cluster.local", A, "NXDomain");
    others_are_answered(others + 1);
    assert!(!daemon.log().contains("panicked"));
}
