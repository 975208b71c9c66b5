//! The share of queries that is answered in the kernel.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType::{self, A, AAAA, PTR, SRV};

use crate::names::{Names, around, implied, random_case, searched};
use crate::node::Node;

/// Names that pass by design: names of pods, names two or more labels below a Service except port names, and addresses of
/// ExternalNames whose chain leaves the zone.
fn passes(name: &str, rtype: RecordType, names: &Names) -> bool {
    let below = |service: &String| name.strip_suffix(&**service).is_some_and(|n| n.trim_end_matches('.').contains('.'));
    let leaves = ["outside", "outside2"].iter().any(|n| name == format!("{n}.share.svc.cluster.local"));
    name.ends_with(".pod.cluster.local") && name.split('.').count() > 4
        || leaves && matches!(rtype, A | AAAA)
        || names.services.iter().any(below) && !names.ports.contains(name)
}

#[test]
fn nearly_all_questions_below_the_zone_are_answered_in_the_kernel() {
    let node = Node::shared();
    let cluster = &node.cluster;
    let _daemon = node.daemon();
    cluster.namespace("share");
    cluster.apply(
        &include_str!("files/shapes.yaml")
            .replace("shapes", "share")
            .replace("10.96.1.", "10.96.2.")
            .replace("96::1", "96::2"),
    );
    let names = implied(cluster, "share");
    let mut all: BTreeSet<String> = around("share");
    all.extend(names.services.iter().flat_map(|s| searched(s, "share")));
    for more in [&names.services, &names.ports, &names.endpoints, &names.reverse] {
        all.extend(more.iter().cloned());
    }
    let mut client = node.pod();
    // Otherwise replies larger than 512 octets pass.
    client.edns = true;
    // All objects have been read.
    node.until_rcode(&client, 20, "address.share.svc.cluster.local", "NXDomain");
    node.until_rcode(&client, 20, "ring-b.share.svc.cluster.local", "NoError");
    let questions = |name: &str| {
        // Addresses that are no endpoint of a Service have no reverse name.
        let types = if name.ends_with(".arpa") { vec![PTR] } else { vec![A, AAAA, SRV, PTR] };
        let types = types.into_iter().filter(|t| !passes(name, *t, &names));
        types.map(|t| (random_case(name), t)).collect::<Vec<_>>()
    };
    let asked: Vec<_> = all.iter().flat_map(|n| questions(n)).collect();
    let passed: Vec<_> = asked.iter().filter(|(name, rtype)| !node.ask(&client, name, *rtype).1).collect();
    let answered = asked.len() - passed.len();
    println!("{answered} of {} answered in the kernel", asked.len());
    assert!(answered * 100 >= asked.len() * 99, "{answered} of {}: {:#?}", asked.len(), passed);
}
