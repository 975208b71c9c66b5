//! The API server is killed, stopped and started again while names are asked for.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

use crate::changes::never_missing;
use crate::cluster::Cluster;
use crate::node::{CURRENT_WITHIN, Node};

fn services(range: std::ops::Range<usize>) -> String {
    let service = |i| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: default}}\nspec: {{ports: [{{port: 80}}]}}\n---\n"
        )
    };
    range.map(service).collect()
}

#[test]
fn killed_under_load_and_back_with_fewer_objects() {
    let cluster = Arc::new(Cluster::new());
    cluster.apply(&services(0..60));
    let node = Node::new(&cluster);
    let daemon = node.daemon();
    let client = node.pod();
    let living: Vec<String> = (0..50).map(|i| format!("s{i}.default.svc.cluster.local")).collect();
    never_missing(&node.pod(), &living, || {
        cluster.kill_api();
        node.until_log(&daemon, 30, "retrying until it succeeds");
        node.until_answered(&client, &living[0]);
        cluster.start_api();
        node.until_log(&daemon, CURRENT_WITHIN, "watch re-established");
        node.until_negative_answers_are(&client, CURRENT_WITHIN, true);

        // Objects change while the node can't reach the API server, and the API server restarts: watches can't continue at
        // their resource version, and the first list breaks off.
        node.refuse_api();
        cluster.delete(&["service", "s50", "s51", "s52", "s53", "s54"]);
        cluster.apply(&services(60..65));
        cluster.kill_api();
        cluster.start_api();
        node.reach_api();
        node.drop_api(25_000);
        node.until_log(&daemon, 60, "failed to perform initial object list");
        // Known names are still answered.
        node.until_answered(&client, &living[0]);
        node.reach_api();
        for i in 60..65 {
            node.until_rcode(&client, CURRENT_WITHIN, &format!("s{i}.default.svc.cluster.local"), "NoError");
        }
        for i in 50..55 {
            node.until_rcode(&client, CURRENT_WITHIN, &format!("s{i}.default.svc.cluster.local"), "NXDomain");
        }
        node.until_negative_answers_are(&client, CURRENT_WITHIN, true);
    });
    assert!(daemon.log().contains("too old resource version"), "a list was begun anew: {}", daemon.log());
    for i in (0..50).chain(55..65) {
        node.until_answered(&client, &format!("s{i}.default.svc.cluster.local"));
    }
}

#[test]
fn stopped_for_a_long_time() {
    let cluster = Arc::new(Cluster::new());
    let node = Node::new(&cluster);
    let daemon = node.daemon();
    let client = node.pod();
    node.until_negative_answers_are(&client, 20, true);
    cluster.signal("kube-apiserver", SIGSTOP);
    // The connections stay open. The last event was a bookmark, which the API server sends each minute.
    sleep(Duration::from_secs(30));
    node.until_negative_answers_are(&client, 10, true);
    node.until_stale(&client, &daemon);
    // Known names are still answered.
    node.until_answered(&client, "web.default.svc.cluster.local");
    node.until_log(&daemon, 30, "retrying until it succeeds");
    cluster.signal("kube-apiserver", SIGCONT);
    let took = node.until_negative_answers_are(&client, CURRENT_WITHIN, true);
    println!("current again {took:?} after the API server went on");
    cluster.delete(&["service", "web"]);
    node.until_rcode(&client, CURRENT_WITHIN, "web.default.svc.cluster.local", "NXDomain");
}
