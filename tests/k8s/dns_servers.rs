//! `DnsServers`: queries to the servers that it names are answered, also after they change.

use std::sync::Arc;

use crate::cluster::{Cluster, DNS};
use crate::lab::within;
use crate::node::Node;

const WEB: &str = "web.default.svc.cluster.local";

/// Waits until queries to this server are answered or pass.
fn until_answers(node: &Node, server: &str, name: &str, answers: bool) {
    within(20, &format!("queries to {server} are answered: {answers}"), || {
        let (passed, before) = (node.lab.count("pass_server"), node.answered());
        node.lab.sh("pod", &format!("dig +tries=1 +timeout=1 @{server} {name} >/dev/null || true"));
        match (node.answered() > before, node.lab.count("pass_server") > passed) {
            (a, p) if a == answers && p != answers => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn service(name: &str, namespace: &str, labels: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\nspec: {{clusterIP: {ip}, ports: [{{port: 53}}]}}\n---\n"
    )
}

fn slice(name: &str, namespace: &str, ip: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-a, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nendpoints: [{{addresses: [{ip}]}}]\nports: [{{port: 53}}]\n---\n"
    )
}

#[test]
fn a_service_by_name() {
    let node = Node::shared();
    let cluster = &node.cluster;
    cluster.namespace("servers");
    node.configure("DnsServers: servers/dns\n");
    let _daemon = node.daemon();
    // The Service doesn't exist: nothing is answered, static names neither.
    until_answers(&node, DNS, WEB, false);
    until_answers(&node, "10.96.3.1", WEB, false);
    until_answers(&node, DNS, "apis.example.org", false);
    cluster.apply(&(service("dns", "servers", "", "10.96.3.1") + &slice("dns", "servers", "10.244.9.1")));
    until_answers(&node, "10.96.3.1", WEB, true);
    until_answers(&node, "10.244.9.1", WEB, true);
    until_answers(&node, "10.244.9.1", "apis.example.org", true);
    until_answers(&node, DNS, WEB, false);
    cluster.apply(&slice("dns", "servers", "10.244.9.2"));
    until_answers(&node, "10.244.9.2", WEB, true);
    until_answers(&node, "10.244.9.1", WEB, false);
    cluster.delete(&["namespace", "servers"]);
    cluster.delete(&["service/dns", "endpointslice/dns-a", "-n", "servers"]);
    until_answers(&node, "10.96.3.1", WEB, false);
    until_answers(&node, "10.244.9.2", WEB, false);
}

#[test]
fn the_clusters_own() {
    let cluster = Arc::new(Cluster::new());
    let node = Node::new(&cluster);
    let _daemon = node.daemon();
    let labels = "k8s-app: kube-dns";
    until_answers(&node, DNS, WEB, true);
    until_answers(&node, "169.254.20.10", WEB, true);
    until_answers(&node, "10.77.0.1", WEB, false);
    until_answers(&node, "10.77.0.1", "apis.example.org", true);
    cluster.apply(
        &(service("other", "kube-system", labels, "10.96.3.2") + &slice("kube-dns", "kube-system", "10.244.9.3")),
    );
    until_answers(&node, "10.96.3.2", WEB, true);
    until_answers(&node, "10.244.9.3", WEB, true);
    // The label in another namespace makes no DNS server.
    cluster.apply(&service("elsewhere", "default", labels, "10.96.3.3"));
    until_answers(&node, "10.96.3.3", WEB, false);
    cluster.delete(&["service", "kube-dns", "-n", "kube-system"]);
    until_answers(&node, DNS, WEB, false);
    until_answers(&node, "10.244.9.3", WEB, false);
    until_answers(&node, "10.96.3.2", WEB, true);
    cluster.apply(&service("other", "kube-system", "", "10.96.3.2"));
    until_answers(&node, "10.96.3.2", WEB, false);
    // Static names are answered for any server.
    until_answers(&node, DNS, "apis.example.org", true);
}
