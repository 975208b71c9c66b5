//! A tenant with more objects than the daemon keeps: valid ones, five of which once ended the daemon.

use std::sync::Arc;

use hickory_proto::rr::RecordType::{self, A, PTR, SRV};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::api;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::lab::{Daemon, within};
use crate::node::Node;

/// The most that the API allows in one slice.
const ENDPOINTS: usize = 1000;
const ADDRESSES: usize = 100;
const SLICES: usize = 12;
/// Namespaces of tenants with few objects.
const TEAMS: usize = 5;
/// The most resident memory of the daemon in MiB, of 512 in the manifest: the maps count, too.
const PEAK_MAX: usize = 400;

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": name}})
}

fn service(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn headless(namespace: &str, name: &str) -> Value {
    service(namespace, name, &json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}))
}

fn slice(namespace: &str, service: &str, name: &str, endpoints: &[Value]) -> Value {
    json!({"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "sql", "port": 5432}]})
}

fn team(i: usize) -> Vec<Value> {
    let (ns, address) = (format!("team-{i}"), |n: usize| format!("10.60.{i}.{n}"));
    let endpoint = |n: usize| json!({"addresses": [address(n)], "hostname": format!("db-{n}")});
    vec![
        service(&ns, "web", &json!({"clusterIP": format!("10.96.77.{i}"), "ports": [{"name": "http", "port": 80}]})),
        headless(&ns, "db"),
        slice(&ns, "db", "db-1", &[endpoint(1), endpoint(2)]),
    ]
}

/// An address of a network, as short text.
fn address(net: usize, i: usize) -> String {
    format!("{net}.{}.{}.{}", i / 2500, i / 50 % 50, i % 50)
}

/// A slice of a headless Service with this many endpoints.
fn large(service: &str, name: &str, net: usize, endpoints: usize) -> Value {
    let endpoint = |e: usize| {
        let addresses: Vec<String> = (0..ADDRESSES).map(|a| address(net, e * ADDRESSES + a)).collect();
        json!({"addresses": addresses})
    };
    slice("tenant", service, name, &(0..endpoints).map(endpoint).collect::<Vec<_>>())
}

struct Asker<'a> {
    node: &'a Node,
    client: Client,
}

impl Asker<'_> {
    fn until_in_kernel(&self, name: &str, rtype: RecordType, rcode: &str) {
        within(120, &format!("{name} {rtype} is {rcode} in the kernel"), || {
            match self.node.ask(&self.client, name, rtype) {
                (reply, true) if reply.rcode == rcode => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    fn assert_teams_are_answered(&self) {
        for i in 0..TEAMS {
            let zone = format!("team-{i}.svc.cluster.local");
            for (name, rtype) in [
                (format!("web.{zone}"), A),
                (format!("_http._tcp.web.{zone}"), SRV),
                (format!("db.{zone}"), A),
                (format!("db-2.db.{zone}"), A),
                (format!("{i}.77.96.10.in-addr.arpa"), PTR),
                (format!("2.{i}.60.10.in-addr.arpa"), PTR),
            ] {
                self.until_in_kernel(&name, rtype, "NoError");
            }
            for missing in [format!("nobody.{zone}"), format!("x.db.{zone}"), format!("x.web.{zone}")] {
                self.until_in_kernel(&missing, A, "NXDomain");
            }
        }
        self.until_in_kernel("nobody.tenant.svc.cluster.local", A, "NXDomain");
    }
}

fn hidden(node: &Node) -> u64 {
    let stats: Value = serde_json::from_slice(&node.lab.edns(&["stats", "--json"]).stdout).expect("JSON");
    stats["refused_records"].as_u64().expect("a number")
}

#[test]
fn a_tenant_with_more_than_is_kept_affects_neither_the_daemon_nor_others() {
    let cluster = Arc::new(Cluster::new());
    let namespaces = (0..TEAMS).map(|i| namespace(&format!("team-{i}"))).chain([namespace("tenant")]).collect();
    let services = (0..SLICES).map(|i| headless("tenant", &format!("large-{i}")));
    let services = services.chain([headless("tenant", "pair"), headless("tenant", "small")]);
    let small = slice("tenant", "small", "small-1", &[json!({"addresses": ["10.61.0.1"]})]);
    let first = (0..TEAMS).flat_map(team).chain(services).chain([small]).collect();
    api::create(&cluster, &[namespaces, first]);
    let node = Node::new(&cluster);
    let mut daemon = node.daemon();
    let asker = Asker { node: &node, client: node.pod() };
    asker.assert_teams_are_answered();
    asker.until_in_kernel("small.tenant.svc.cluster.local", A, "NoError");

    // The slices are created while the daemon runs.
    let mut slices: Vec<Value> =
        (0..SLICES).map(|i| large(&format!("large-{i}"), &format!("large-{i}"), 1 + i, ENDPOINTS)).collect();
    // One of them has another tenant's address, whose reverse name has two targets now.
    slices[0]["endpoints"][0]["addresses"][0] = "10.60.0.1".into();
    slices.extend((0..2).map(|i| large("pair", &format!("pair-{i}"), 51 + i, 350 - 10 * i)));
    for slice in slices {
        api::create(&cluster, &[vec![slice]]);
    }
    let all = (SLICES * ENDPOINTS * ADDRESSES) as u64;
    let whole =
        |what: &str| within(120, what, || if hidden(&node) > all { Ok(()) } else { Err(hidden(&node).to_string()) });
    whole("all large slices were read");
    let asserts = |daemon: &Daemon| {
        asker.assert_teams_are_answered();
        asker.until_in_kernel("small.tenant.svc.cluster.local", A, "NoError");
        assert!(!asker.node.ask(&asker.client, "1.0.60.10.in-addr.arpa", PTR).1, "only the server has both targets");
        assert!(!asker.node.ask(&asker.client, "large-3.tenant.svc.cluster.local", A).1);
        println!(
            "{} MiB at most, {}",
            daemon.peak(),
            node.lab.sh("host", &format!("grep -E 'VmRSS|RssAnon' /proc/{}/status", daemon.pid()))
        );
        assert!(daemon.peak() < PEAK_MAX, "{} MiB", daemon.peak());
        let told = daemon.log().lines().filter(|l| l.contains("namespace tenant") && l.contains("not kept")).count();
        assert_eq!(told, 1, "{}", daemon.log());
    };
    asserts(&daemon);

    // Another daemon reads everything at once.
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let daemon = node.daemon();
    whole("all large slices were listed");
    asserts(&daemon);

    // The remaining objects are kept, and those that fit again.
    let deleted: Vec<String> =
        (0..SLICES).map(|i| format!("endpointslice/large-{i}")).chain(["endpointslice/pair-1".into()]).collect();
    cluster.delete(&["-n", "tenant"].into_iter().chain(deleted.iter().map(String::as_str)).collect::<Vec<_>>());
    let endpoint = address(51, 7).replace('.', "-");
    asker.until_in_kernel(&format!("{endpoint}.pair.tenant.svc.cluster.local"), A, "NoError");
    asker.until_in_kernel("x.pair.tenant.svc.cluster.local", A, "NXDomain");
    asker.until_in_kernel("1.0.60.10.in-addr.arpa", PTR, "NoError");
    within(10, "nothing is hidden", || if hidden(&node) == 0 { Ok(()) } else { Err(hidden(&node).to_string()) });
    asker.assert_teams_are_answered();
    assert!(daemon.peak() < PEAK_MAX && !daemon.log().contains("panicked"), "{} MiB", daemon.peak());
}
