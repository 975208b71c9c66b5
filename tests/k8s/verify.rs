//! `edns verify` against a real CoreDNS.

use std::sync::Arc;

use crate::cluster::{Cluster, DNS};
use crate::lab::EDNS;
use crate::node::Node;

#[test]
fn finds_the_server_and_no_difference_in_its_zone() {
    // A cluster in which no other test changes objects.
    let node = Node::new(&Arc::new(Cluster::new()));
    let _daemon = node.daemon();
    let config = node.lab.path("config.yaml");
    let output = node.lab.command("host", EDNS).args(["verify", "--config"]).arg(config).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    println!("{text}");
    assert!(text.starts_with(&format!("asking {DNS}:53 over TCP")), "{text}");
    // CoreDNS doesn't know the static names.
    assert!(text.contains("\napis.example.org. A\n  rcode: NoError in the kernel, "), "{text}");
    assert_eq!(output.status.code(), Some(1));
    for line in text.lines().filter(|l| !l.starts_with(' ')) {
        assert!(!line.contains("cluster.local.") && !line.contains(".arpa."), "{line}: {text}");
    }
}
