//! More names than the maps hold, while they come and go.

use std::sync::Arc;

use hickory_proto::rr::RecordType::A;

use crate::changes::never_missing;
use crate::cluster::Cluster;
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
fn no_name_that_lives_is_said_not_to_exist() {
    let cluster = Arc::new(Cluster::new());
    cluster.apply(&services(0..20, 80));
    let node = Node::new(&cluster);
    let mut daemon = node.daemon();
    let stats: serde_json::Value = serde_json::from_slice(&node.lab.edns(&["stats", "--json"]).stdout).unwrap();
    let held = stats["records"].as_u64().unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();

    // Three names for each Service: ten of these do not fit.
    node.configure(&format!("MaxRecords: {}\n", held - 30));
    let daemon = node.daemon();
    node.says(&daemon, 10, "MaxRecords");
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
    // Names of addresses and ports have yielded, and what they make room for is answered, as is what is not there.
    let stats: serde_json::Value = serde_json::from_slice(&node.lab.edns(&["stats", "--json"]).stdout).unwrap();
    assert!(stats["refused_records"].as_u64() > Some(0), "{stats}");
    node.until_absence_is(&client, 20, true);

    // What fits again is answered, and then what is absent, too.
    let some: Vec<String> = (8..23).map(|i| format!("service/s{i}")).collect();
    cluster.delete(&some.iter().map(String::as_str).collect::<Vec<_>>());
    node.until_absence_is(&client, 20, true);
    for name in names(0..8) {
        assert!(node.ask(&client, &name, A).1, "{name}");
    }
    node.until_rcode(&client, 10, "s10.default.svc.cluster.local", "NXDomain");
}
