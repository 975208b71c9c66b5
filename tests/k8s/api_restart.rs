//! The API server itself killed, stopped and started again, while its names are asked for.

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
fn killed_under_load_and_with_fewer_objects_when_it_is_back() {
    let cluster = Arc::new(Cluster::new());
    cluster.apply(&services(0..60));
    let node = Node::new(&cluster);
    let daemon = node.daemon();
    let client = node.pod();
    let living: Vec<String> = (0..50).map(|i| format!("s{i}.default.svc.cluster.local")).collect();
    never_missing(&node.pod(), &living, || {
        cluster.kill_api();
        node.says(&daemon, 30, "tried again until it works");
        node.until_answered(&client, &living[0]);
        cluster.start_api();
        node.says(&daemon, CURRENT_WITHIN, "in touch again");
        node.until_absence_is(&client, CURRENT_WITHIN, true);

        // It changes unseen, and is another one when it is seen again: watches can't go on from where they were, and the
        // first list breaks off half-way.
        node.refuse_api();
        cluster.delete(&["service", "s50", "s51", "s52", "s53", "s54"]);
        cluster.apply(&services(60..65));
        cluster.kill_api();
        cluster.start_api();
        node.reach_api();
        node.drop_api(25_000);
        node.says(&daemon, 60, "failed to perform initial object list");
        // What is known is still answered.
        node.until_answered(&client, &living[0]);
        node.reach_api();
        for i in 60..65 {
            node.until_rcode(&client, CURRENT_WITHIN, &format!("s{i}.default.svc.cluster.local"), "NoError");
        }
        for i in 50..55 {
            node.until_rcode(&client, CURRENT_WITHIN, &format!("s{i}.default.svc.cluster.local"), "NXDomain");
        }
        node.until_absence_is(&client, CURRENT_WITHIN, true);
    });
    assert!(daemon.log().contains("too old resource version"), "a list was begun anew: {}", daemon.log());
    for i in (0..50).chain(55..65) {
        node.until_answered(&client, &format!("s{i}.default.svc.cluster.local"));
    }
}

#[test]
fn stopped_for_long() {
    let cluster = Arc::new(Cluster::new());
    let node = Node::new(&cluster);
    let daemon = node.daemon();
    let client = node.pod();
    node.until_absence_is(&client, 20, true);
    cluster.signal("kube-apiserver", SIGSTOP);
    // The connections live, and the last word was a bookmark, which there is each minute.
    sleep(Duration::from_secs(30));
    node.until_absence_is(&client, 10, true);
    node.until_out_of_touch(&client, &daemon);
    // What is known is still answered.
    node.until_answered(&client, "web.default.svc.cluster.local");
    node.says(&daemon, 30, "tried again until it works");
    cluster.signal("kube-apiserver", SIGCONT);
    let took = node.until_absence_is(&client, CURRENT_WITHIN, true);
    println!("current again {took:?} after the API server went on");
    cluster.delete(&["service", "web"]);
    node.until_rcode(&client, CURRENT_WITHIN, "web.default.svc.cluster.local", "NXDomain");
}
