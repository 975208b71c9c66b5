//! The cluster's state put back to what it was some time ago, as from a backup.

use std::sync::Arc;

use hickory_proto::rr::RecordType::A;

use crate::cluster::Cluster;
use crate::lab::{Daemon, within};
use crate::node::Node;

fn service(name: &str, port: usize) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n")
}

/// Waits until this is the answer, from the kernel.
fn until_answer(node: &Node, daemon: &Daemon, seconds: u64, name: &str, rcode: &str) {
    let client = node.pod();
    let name = format!("{name}.default.svc.cluster.local");
    within(seconds, &format!("{name} is {rcode} in the kernel"), || match node.ask(&client, &name, A) {
        (reply, true) if reply.rcode == rcode => Ok(()),
        other => Err(format!("{other:?}\n{}", daemon.log())),
    });
}

/// Undoes what happened after a backup, so many changes of some Services among it, while the node can't reach the API server
/// until there were so many others; returns the daemon's log.
fn undo(changes: usize, others: usize) -> String {
    let cluster = Arc::new(Cluster::new());
    cluster.apply(&service("old", 80));
    cluster.kill_api();
    cluster.stop("etcd");
    cluster.lab.sh("host", "cp -r etcd backup");
    cluster.start_etcd();
    cluster.start_api();

    let node = Node::new(&cluster);
    let daemon = node.daemon();
    until_answer(&node, &daemon, 20, "old", "NoError");
    cluster.delete(&["service", "old"]);
    for port in 1..=changes {
        cluster.apply(&(service("young", port) + &service("web", port)));
    }
    until_answer(&node, &daemon, 20, "young", "NoError");
    until_answer(&node, &daemon, 20, "old", "NXDomain");

    if others > 0 {
        node.refuse_api();
    }
    cluster.kill_api();
    cluster.stop("etcd");
    cluster.lab.sh("host", "rm -r etcd && mv backup etcd");
    cluster.start_etcd();
    cluster.start_api();
    if others > 0 {
        let other = |i| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: other-{i}}}\n---\n");
        cluster.apply(&(0..others).map(other).collect::<String>());
    }
    node.reach_api();
    until_answer(&node, &daemon, 30, "old", "NoError");
    until_answer(&node, &daemon, 30, "young", "NXDomain");
    // And it goes on from there.
    cluster.apply(&service("new", 80));
    until_answer(&node, &daemon, 20, "new", "NoError");
    daemon.log()
}

#[test]
fn to_a_version_far_behind() {
    let log = undo(30, 0);
    assert!(log.contains("services: all is listed anew") && log.contains("has an older state"), "{log}");
}

#[test]
fn to_one_that_is_made_up_for() {
    let log = undo(5, 40);
    assert!(log.contains("services: all is listed anew") && log.contains("has an older state"), "{log}");
}

#[test]
fn to_one_just_behind_without_a_failure_that_is_seen() {
    undo(1, 0);
}
