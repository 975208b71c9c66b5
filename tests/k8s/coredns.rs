//! The same questions to eDNS and to CoreDNS, which watch the same API server.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType::{self, A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};

use crate::lab::within;
use crate::names::{around, implied, random_case, searched};
use crate::node::Node;

const SHAPES: &str = concat!(include_str!("files/shapes.yaml"), "---\n", include_str!("files/mixed.yaml"));
const TYPES: [RecordType; 9] = [A, AAAA, SRV, CNAME, TXT, MX, PTR, SOA, NS];

/// All names that the objects of a namespace imply, and some that they don't.
fn names(node: &Node, namespace: &str) -> BTreeSet<String> {
    let implied = implied(&node.cluster, namespace);
    let mut names = around(namespace);
    for service in &implied.services {
        names.extend(searched(service, namespace));
        let labels = [
            "_tcp",
            "_http",
            "x",
            "a.b",
            "a.b.c",
            "http.tcp",
            "_http.tcp",
            "http._tcp",
            "_._tcp",
            "_",
            "_._",
            "x._._",
            "._tcp",
            "_x._tcp",
            "_pg._tcp.db-0",
        ];
        names.extend(labels.map(|label| format!("{label}.{service}")).into_iter().filter(|n| !n.starts_with('.')));
    }
    names.extend(
        ["10-244-0-5", "fd00-244--5", "fd00-244--0", "1-2-3", "x", "x.10-0-0-1", "x.y.10-0-0-1"]
            .map(|pod| format!("{pod}.{namespace}.pod.cluster.local")),
    );
    names.extend(
        ["1-2-3-4.nowhere.pod", "dns-version", "x.dns-version", "dns", "ns.dns"].map(|n| format!("{n}.cluster.local")),
    );
    names.extend(["9.9.96.10.in-addr.arpa", "96.10.in-addr.arpa"].map(str::to_owned));
    for more in [implied.services, implied.ports, implied.endpoints, implied.reverse] {
        names.extend(more);
    }
    names
}

/// Asks both servers. Repeats what differs, because one of them may not have seen a change yet.
pub fn compare(node: &Node, names: &BTreeSet<String>, types: &[RecordType]) {
    let (via_edns, direct) = (node.pod(), node.direct());
    let asked = |name: &str, rtype| {
        let (edns_reply, coredns_reply) = (via_edns.ask(name, rtype), direct.ask(name, rtype));
        (edns_reply != coredns_reply)
            .then(|| format!("{name} {rtype}\n  edns    {edns_reply:?}\n  coredns {coredns_reply:?}"))
    };
    let mut left: Vec<(String, RecordType)> =
        names.iter().flat_map(|name| types.iter().map(|t| (random_case(name), *t))).collect();
    within(20, "no difference between eDNS and CoreDNS", || {
        let mut differences = Vec::new();
        left.retain(|(name, rtype)| asked(name, *rtype).inspect(|d| differences.push(d.clone())).is_some());
        if left.is_empty() { Ok(()) } else { Err(format!("{}:\n{}", left.len(), differences.join("\n"))) }
    });
}

#[test]
fn no_answer_differs_from_coredns_while_objects_come_change_and_go() {
    let node = Node::shared();
    let cluster = &node.cluster;
    let _daemon = node.daemon();
    cluster.namespace("shapes");
    let mut all = BTreeSet::new();
    let mut asked = 0;
    let mut compare_all = || {
        all.extend(names(&node, "shapes"));
        compare(&node, &all, &TYPES);
        asked += all.len() * TYPES.len();
    };
    cluster.apply(SHAPES);
    compare_all();

    // Ports, addresses, hostnames, readiness and targets change.
    let changed = [
        ("10.244.", "10.245."),
        ("fd00:244:", "fd00:245:"),
        ("port: 80}", "port: 81}"),
        ("name: pg,", "name: postgres,"),
        ("hostname: db-", "hostname: node-"),
        ("{ready: false}", "{ready: true}"),
        ("externalName: web.", "externalName: db."),
        ("externalName: alias.", "externalName: six."),
        ("externalName: nobody.", "externalName: dual."),
        ("externalName: www.example.org", "externalName: portless.shapes.svc.cluster.local"),
        ("externalName: ring-a.", "externalName: web."),
    ]
    .iter()
    .fold(SHAPES.to_owned(), |shapes, (from, to)| shapes.replace(from, to));
    cluster.apply(&changed);
    compare_all();

    cluster.delete(&["--all", "services,endpointslices", "-n", "shapes"]);
    compare_all();
    cluster.delete(&["namespace", "shapes"]);
    println!("{asked} questions, {} answered in the kernel", node.answered());
    // Otherwise CoreDNS was compared with itself. kernel_share.rs tests what passes by design.
    assert!(node.answered() as usize * 2 > asked, "{} of {asked}", node.answered());
}
