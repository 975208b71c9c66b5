//! The Services of a cluster, and its zone by a zone transfer from CoreDNS.

use std::fmt::Write as _;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api;
use crate::cluster::{Cluster, DNS};

/// Parallel requests to the API server.
const AT_A_TIME: usize = 32;

/// This many Services in a hundredth as many namespaces. One in eight also has an IPv6 address; one in twenty is headless
/// with three endpoints.
pub struct Services {
    pub count: usize,
}

impl Services {
    pub const fn namespaces(&self) -> usize {
        self.count / 100
    }

    pub const fn namespace(&self, service: usize) -> usize {
        service % self.namespaces()
    }

    /// Creates the namespaces, Services and slices.
    pub fn create(&self, cluster: &Cluster) {
        api::run(cluster, async |client| {
            let namespace = |i| json!({"metadata": {"name": format!("ns{i}")}});
            post(&Api::<Namespace>::all(client.clone()), (0..self.namespaces()).map(namespace)).await;
            for i in 0..self.namespaces() {
                let mine = || (i..self.count).step_by(self.namespaces());
                let ns = format!("ns{i}");
                post(&Api::<Service>::namespaced(client.clone(), &ns), mine().map(service)).await;
                let slices = mine().filter(|i| is_headless(*i)).map(slice);
                post(&Api::<EndpointSlice>::namespaced(client.clone(), &ns), slices).await;
            }
        });
    }

    /// The zone in master file format, one record per line, by a zone transfer from CoreDNS.
    pub fn zone(cluster: &Cluster) -> String {
        let zone = cluster.lab.sh("host", &format!("dig @{DNS} AXFR cluster.local +noall +answer +noidnout"));
        let mut lines: Vec<&str> = zone.lines().filter(|l| !l.is_empty()).collect();
        assert!(lines.len() > 2, "no zone transfer: {zone}");
        // The SOA is also the last record. Records of several Services may be equal.
        lines.pop();
        let mut zone = format!("{}\n", lines.remove(0));
        lines.sort_unstable();
        lines.dedup();
        writeln!(zone, "cluster.local. 30 IN NS ns.dns.cluster.local.\nns.dns.cluster.local. 30 IN A {DNS}")
            .expect("memory");
        lines.iter().for_each(|line| writeln!(zone, "{line}").expect("memory"));
        zone
    }
}

pub const fn is_headless(service: usize) -> bool {
    service % 20 == 7
}

fn service(i: usize) -> Value {
    // Services with SRV queries have one address: with two, a zone transfer has other weights than an answer.
    let policy = if i % 8 == 3 { "RequireDualStack" } else { "SingleStack" };
    let address = is_headless(i).then_some("None");
    json!({"metadata": {"name": format!("svc-{i}")}, "spec": {"ipFamilyPolicy": policy, "clusterIP": address,
        "ports": [{"name": "http", "port": 80}]}})
}

fn slice(i: usize) -> Value {
    let endpoint = |n: usize| json!({"addresses": [format!("10.244.{}.{}", i / 64 % 256, i % 64 * 4 + n)]});
    json!({"metadata": {"name": format!("svc-{i}-a"), "labels": {"kubernetes.io/service-name": format!("svc-{i}")}},
        "addressType": "IPv4", "endpoints": [endpoint(0), endpoint(1), endpoint(2)], "ports": [{"name": "http", "port": 80}]})
}

async fn post<T>(api: &Api<T>, objects: impl Iterator<Item = Value>)
where
    T: Clone + serde::Serialize + DeserializeOwned + std::fmt::Debug,
{
    let create = |object| async move {
        let object: T = serde_json::from_value(object).expect("an object");
        api.create(&PostParams::default(), &object).await.expect("the API server");
    };
    stream::iter(objects.map(create)).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}
