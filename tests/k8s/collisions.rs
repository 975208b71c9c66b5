//! Names that a tenant chose to collide, among the names of others.

use std::sync::Arc;

use hickory_proto::rr::RecordType::{A, AAAA};
use serde_json::{Value, json};

use crate::api;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::hash_collisions;
use crate::lab::within;
use crate::node::Node;

/// A few less than five slices have room for.
const COLLIDING: usize = 4_957;
const INNOCENT: usize = 5_000;
/// The most endpoints that the API server allows in a slice.
const SLICE: usize = 1_000;

/// A headless Service whose endpoints have these hostnames.
struct Headless {
    namespace: &'static str,
    hostnames: Vec<String>,
    /// The second octet of the endpoints' addresses.
    network: u8,
}

impl Headless {
    fn address(&self, i: usize) -> String {
        format!("10.{}.{}.{}", self.network, i >> 8, i & 255)
    }

    fn name(&self, hostname: &str) -> String {
        format!("{hostname}.many.{}.svc.cluster.local", self.namespace)
    }

    fn create(&self, cluster: &Cluster) {
        let namespace = self.namespace;
        let service = json!({"kind": "Service", "metadata": {"name": "many", "namespace": namespace},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        let endpoint = |(i, hostname): (usize, &String)| json!({"addresses": [self.address(i)], "hostname": hostname});
        let endpoints: Vec<Value> = self.hostnames.iter().enumerate().map(endpoint).collect();
        let slice = |(i, endpoints): (usize, &[Value])| {
            json!({"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 80}],
                "metadata": {"name": format!("many-{i}"), "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": "many"}}})
        };
        let slices = endpoints.chunks(SLICE).enumerate().map(slice).collect();
        let created = json!({"kind": "Namespace", "metadata": {"name": namespace}});
        api::create(cluster, &[vec![created], vec![service], slices]);
    }

    /// Waits until each of the names is answered in the kernel with its own address.
    fn until_answered(&self, node: &Node, client: &Client) {
        for (i, hostname) in self.hostnames.iter().enumerate() {
            let (name, address) = (self.name(hostname), self.address(i));
            within(60, &format!("{name} is answered in the kernel"), || match node.ask(client, &name, A) {
                (reply, true) if reply.answer.iter().map(|r| r.ends_with(&format!(" a {address}"))).eq([true]) => {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            });
        }
    }
}

/// Waits until negative answers and names below a wildcard are answered in the kernel.
fn until_other_names_are_answered(node: &Node, client: &Client, others: &Headless) {
    let questions = [
        ("nobody.default.svc.cluster.local", A, "NXDomain", 0),
        ("api.example.com.default.svc.cluster.local", AAAA, "NXDomain", 0),
        ("api.example.com.cluster.local", A, "NXDomain", 0),
        (&others.name("nobody"), A, "NXDomain", 0),
        ("web.default.svc.cluster.local", AAAA, "NoError", 0),
        (&others.name(&others.hostnames[0]), AAAA, "NoError", 0),
        ("any.apps.example.org", A, "NoError", 1),
        ("any.apps.example.org", AAAA, "NoError", 0),
    ];
    for (name, rtype, rcode, records) in questions {
        within(20, &format!("{name} {rtype} is {rcode} in the kernel"), || match node.ask(client, name, rtype) {
            (reply, true) if reply.rcode == rcode && reply.answer.len() == records => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

#[test]
fn names_that_were_chosen_to_collide_affect_no_others() {
    let cluster = Arc::new(Cluster::new());
    let innocent = (0..INNOCENT).map(|i| format!("host-{i}")).collect();
    let innocent = Headless { namespace: "innocent", hostnames: innocent, network: 200 };
    let colliding = Headless { namespace: "colliding", hostnames: hash_collisions::hostnames(COLLIDING), network: 201 };
    innocent.create(&cluster);
    let node = Node::new(&cluster);
    let client = node.pod();
    let check = || {
        colliding.until_answered(&node, &client);
        innocent.until_answered(&node, &client);
        until_other_names_are_answered(&node, &client, &innocent);
        let stats: Value = serde_json::from_slice(&node.lab.edns(&["stats", "--json"]).stdout).expect("JSON");
        assert_eq!(stats["refused_records"], 0);
    };
    let mut daemon = node.daemon();
    innocent.until_answered(&node, &client);
    until_other_names_are_answered(&node, &client, &innocent);
    colliding.create(&cluster);
    check();
    // With another key, and all names in one batch.
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
    let _daemon = node.daemon();
    check();
}
