//! The objects in a real API server.

use std::fs::File;

use edns::source::kubernetes::Access;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::objects::{NAMESPACES, World, namespace, namespace_of, service, slice};

/// Requests at a time.
const AT_A_TIME: usize = 32;

/// A control plane that has them.
pub fn cluster(world: &World) -> Cluster {
    let cluster = Cluster::without_dns();
    cluster.lab.write("domain.yaml", "Domains: []\n");
    cluster
        .lab
        .write("config.yaml", "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth0\nNetworkDirection: Ingress\nMetricsAddr: 127.0.0.1:9153\n");
    run(&cluster, async |client| {
        post(|_| Api::<Namespace>::all(client.clone()), NAMESPACES, namespace).await;
        post(|i| Api::<Service>::namespaced(client.clone(), &namespace_of(i)), world.services, service).await;
        post(|i| Api::<EndpointSlice>::namespaced(client.clone(), &namespace_of(i)), world.services, slice).await;
    });
    cluster
}

/// Does something with a client of the API server.
pub fn run<T: Send>(cluster: &Cluster, work: impl AsyncFnOnce(kube::Client) -> T + Send) -> T {
    let netns = File::open(format!("/run/netns/{}", cluster.lab.ns("host"))).expect("the namespace");
    let kubeconfig = cluster.lab.path("kubeconfig");
    let run = || {
        setns(&netns, CloneFlags::CLONE_NEWNET).expect("root");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let config = Access::KubeConfig(Some(kubeconfig)).config().await.expect("a config");
            work(kube::Client::try_from(config).expect("a client")).await
        })
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
}

async fn post<T>(api: impl Fn(usize) -> Api<T>, count: usize, object: fn(usize) -> Value)
where
    T: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let api = &api;
    let create = |i| async move {
        let object: T = serde_json::from_value(object(i)).expect("an object");
        api(i).create(&PostParams::default(), &object).await.expect("the API server");
    };
    stream::iter((0..count).map(create)).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

/// Octets of what the API server sends, per object.
pub fn print_sizes(cluster: &Cluster) {
    let get = |path: &str| cluster.ask(&["get", "--raw", path]).len();
    let mut large = slice(0);
    large["metadata"]["name"] = json!("large");
    let endpoint = large["endpoints"][0].clone();
    let endpoints = (0..100).map(|i| {
        let mut endpoint = endpoint.clone();
        endpoint["addresses"] = json!([format!("10.200.0.{}", i + 1)]);
        endpoint
    });
    large["endpoints"] = endpoints.collect();
    large["apiVersion"] = json!("discovery.k8s.io/v1");
    large["kind"] = json!("EndpointSlice");
    cluster.apply(&large.to_string());
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", namespace_of(0));
    println!("\n| what the API server sends | octets |\n| --- | --- |");
    println!("| all 10,000 Services | {} |", get("/api/v1/services"));
    println!("| all 10,000 EndpointSlices | {} |", get("/apis/discovery.k8s.io/v1/endpointslices"));
    println!("| an event of a slice with one endpoint | {} |", get(&format!("{slices}/svc-0-x7k2p")));
    println!("| an event of a slice with a hundred | {} |", get(&format!("{slices}/large")));
}
