//! Deployments and StatefulSets are scaled, rolled out and deleted by the real controllers; kwok simulates the node.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, AAAA, PTR, SRV};

use crate::changes::never_missing;
use crate::cluster::Cluster;
use crate::coredns::compare;
use crate::lab::within;
use crate::names::implied;
use crate::node::Node;

const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,endpointslice-controller,\
     namespace-controller,garbage-collector-controller";

fn start_controllers(cluster: &Cluster) {
    let controllers = format!("--controllers={CONTROLLERS}");
    cluster.start(
        "kube-controller-manager",
        &[
            "--kubeconfig=kubeconfig",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            &controllers,
        ],
    );
    cluster.apply(include_str!("files/kwok_node.yaml"));
    let stages = std::env::var("EDNS_K8S_TOOLS").unwrap() + "/kwok.yaml";
    within(60, "kwok simulates the node", || {
        // kwok may crash at its first node.
        if !cluster.runs("kwok") {
            cluster.start(
                "kwok",
                &["--kubeconfig=kubeconfig", "--config", &stages, "--manage-all-nodes", "--cidr=10.220.0.0/16"],
            );
        }
        sleep(Duration::from_secs(1));
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        if cluster.ask(&["get", "node", "node-0", "-o", ready]) == "True" { Ok(()) } else { Err("not ready".into()) }
    });
}

const OBJECTS: &str = include_str!("files/rollout.yaml");

#[test]
fn rollouts_are_followed_and_no_existing_name_is_missing() {
    let node = Node::shared();
    let cluster = &node.cluster;
    start_controllers(cluster);
    let _daemon = node.daemon();
    cluster.namespace("rolled");
    cluster.apply(OBJECTS);
    let mut all = BTreeSet::new();
    let mut rolled_out = || {
        cluster.ask(&["rollout", "status", "-n", "rolled", "deployment/front", "--timeout=120s"]);
        cluster.ask(&["rollout", "status", "-n", "rolled", "statefulset/db", "--timeout=120s"]);
        let names = implied(cluster, "rolled");
        let endpoints = names.endpoints.len();
        for more in [names.services, names.ports, names.endpoints, names.reverse] {
            all.extend(more);
        }
        compare(&node, &all, &[A, AAAA, SRV, PTR]);
        endpoints
    };
    rolled_out();
    let client = node.pod();
    for i in 0..3 {
        node.until_rcode(&client, 20, &format!("db-{i}.db.rolled.svc.cluster.local"), "NoError");
    }

    // These names exist all the time; db-0 is away during its rollout.
    let living = ["front", "front-pods", "db"].map(|s| format!("{s}.rolled.svc.cluster.local"));
    never_missing(&client, &living, || {
        cluster.ask(&["scale", "-n", "rolled", "deployment/front", "--replicas=30"]);
        cluster.ask(&["scale", "-n", "rolled", "statefulset/db", "--replicas=5"]);
        assert!(rolled_out() >= 30);
        cluster.ask(&["rollout", "restart", "-n", "rolled", "deployment/front", "statefulset/db"]);
        rolled_out();
        cluster.ask(&["scale", "-n", "rolled", "deployment/front", "--replicas=4"]);
        cluster.ask(&["scale", "-n", "rolled", "statefulset/db", "--replicas=2"]);
        rolled_out();
    });

    cluster.delete(&["deployment/front", "statefulset/db", "-n", "rolled"]);
    node.until_rcode(&client, 60, "front-pods.rolled.svc.cluster.local", "NXDomain");
    node.until_rcode(&client, 60, "db-0.db.rolled.svc.cluster.local", "NXDomain");
    compare(&node, &all, &[A, AAAA, SRV, PTR]);
    cluster.delete(&["namespace", "rolled"]);
    node.until_rcode(&client, 60, "front.rolled.svc.cluster.local", "NXDomain");
    compare(&node, &all, &[A, AAAA, SRV, PTR]);
}
