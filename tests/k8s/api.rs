//! Parallel requests to the API server; kubectl sends one after the other.

use edns::source::kubernetes::Access;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use serde_json::Value;

use crate::cluster::Cluster;

/// Parallel requests.
const AT_A_TIME: usize = 32;

/// Runs `work` with a client of the API server, in the namespace of the control plane.
pub fn run<T: Send>(cluster: &Cluster, work: impl AsyncFnOnce(kube::Client) -> T + Send) -> T {
    let kubeconfig = cluster.lab.path("kubeconfig");
    cluster.lab.run_in("host", || {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let config = Access::KubeConfig(Some(kubeconfig)).config().await.expect("a config");
            work(kube::Client::try_from(config).expect("a client")).await
        })
    })
}

/// Creates namespaces, Services and slices, all of one part before the next part. The objects state their `kind` and no
/// apiVersion.
pub fn create(cluster: &Cluster, parts: &[Vec<Value>]) {
    run(cluster, async |client| {
        for objects in parts {
            stream::iter(objects.iter().map(|o| create_one(&client, o)))
                .buffer_unordered(AT_A_TIME)
                .collect::<Vec<()>>()
                .await;
        }
    });
}

async fn create_one(client: &kube::Client, object: &Value) {
    let resource = match object["kind"].as_str().expect("a kind") {
        "Namespace" => ApiResource::erase::<Namespace>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "EndpointSlice" => ApiResource::erase::<EndpointSlice>(&()),
        kind => panic!("{kind}"),
    };
    let mut object = object.clone();
    object["apiVersion"] = resource.api_version.as_str().into();
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&PostParams::default(), &object).await.expect("the API server");
}
