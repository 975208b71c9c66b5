//! The state of the cluster is restored from a backup of etcd.

use std::sync::Arc;

use hickory_proto::rr::RecordType::A;

use crate::cluster::Cluster;
use crate::lab::{Daemon, within};
use crate::node::Node;

fn service(name: &str, port: usize) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n")
}

/// Waits for this answer from the kernel.
fn until_answer(node: &Node, daemon: &Daemon, seconds: u64, name: &str, rcode: &str) {
    let client = node.pod();
    let name = format!("{name}.default.svc.cluster.local");
    within(seconds, &format!("{name} is {rcode} in the kernel"), || match node.ask(&client, &name, A) {
        (reply, true) if reply.rcode == rcode => Ok(()),
        other => Err(format!("{other:?}\n{}", daemon.log())),
    });
}

/// Restores a backup. `changes` changes of two Services are undone, and the node can't reach the API server until `others`
/// other objects were written after the restore. Returns the daemon's log.
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
    // Later changes are followed.
    cluster.apply(&service("new", 80));
    until_answer(&node, &daemon, 20, "new", "NoError");
    daemon.log()
}

#[test]
fn to_a_much_older_version() {
    let log = undo(30, 0);
    assert!(log.contains("services: relisting") && log.contains("has an older state"), "{log}");
}

#[test]
fn to_a_version_that_later_writes_pass_again() {
    let log = undo(5, 40);
    assert!(log.contains("services: relisting") && log.contains("has an older state"), "{log}");
}

#[test]
fn to_a_version_just_before_without_a_visible_failure() {
    undo(1, 0);
}
