//! Writes versions of the objects one after the other, and tries again while the API server is away.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use edns::source::kubernetes::Access;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;

use crate::lab::{Handle, Lab};
use crate::objects::{self, Object, VERSIONS};
use crate::rng::Rng;
use crate::truth::{PROPAGATION, Subject, Truth};

/// The longest usual pause in milliseconds. A write takes some 10 ms, so most objects change a few times a second.
const PAUSE_MAX: usize = 300;
/// Sometimes an object stays for longer than its event may take, so that a lost event is not hidden by the next one.
const LONG_PAUSE: Duration = PROPAGATION.saturating_mul(2);
/// The granularity of pauses.
const TICK: Duration = Duration::from_millis(20);
/// Between tries while the API server doesn't answer.
const RETRY: Duration = Duration::from_millis(200);

pub struct Writer {
    netns: Handle,
    kubeconfig: PathBuf,
}

impl Writer {
    /// Creates the objects that exist all the time.
    pub fn new(lab: &Lab) -> Self {
        let writer = Self { netns: lab.netns("host").handle(), kubeconfig: lab.path("kubeconfig") };
        writer.run(async |client| {
            let services: Api<Service> = Api::default_namespaced(client);
            for object in objects::lasting() {
                put(&services, object["metadata"]["name"].as_str().unwrap(), &object).await.unwrap();
            }
        });
        writer
    }

    /// Writes versions of all objects until it is stopped.
    pub fn churn(&self, truth: &Truth, seed: u64, over: &AtomicBool) {
        self.run(async |client| {
            let all = truth.subjects.iter().enumerate().map(|(i, subject)| {
                let (client, mut rng) = (client.clone(), Rng::new(seed << 8 | i as u64));
                async move {
                    while !over.load(Ordering::Relaxed) {
                        step(&client, subject, &mut rng).await;
                        let short = Duration::from_millis(rng.below(PAUSE_MAX) as u64);
                        let end = Instant::now() + if rng.one_in(8) { LONG_PAUSE } else { short };
                        while Instant::now() < end && !over.load(Ordering::Relaxed) {
                            sleep(TICK).await;
                        }
                    }
                }
            });
            join_all(all).await;
        });
    }

    /// Makes all objects exist, in the sizes that they had at the last rest.
    pub fn rest(&self, truth: &Truth) {
        self.run(async |client| {
            let all = truth.subjects.iter().enumerate().map(|(i, subject)| {
                let client = client.clone();
                async move {
                    let version = subject.state().map_or(i as u16, |v| v + 5);
                    if subject.state().is_some() && matches!(subject.object, Object::Service(_)) {
                        write(&client, subject, None).await;
                    }
                    write(&client, subject, Some(version / 5 * 5 % VERSIONS)).await;
                }
            });
            join_all(all).await;
        });
    }

    /// Runs in the lab's `host`, where the API server is.
    fn run(&self, work: impl AsyncFnOnce(kube::Client) + Send) {
        let run = || {
            self.netns.enter();
            // This program also uses the daemon's library, and there may be another provider of cryptography.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let config = Access::KubeConfig(Some(self.kubeconfig.clone())).config().await.unwrap();
                work(kube::Client::try_from(config).unwrap()).await;
            });
        };
        thread::scope(|scope| scope.spawn(run).join().expect("no panic"));
    }
}

/// One step of an object's life. The addresses of a Service are immutable, so it is deleted between two of its versions.
async fn step(client: &kube::Client, subject: &Subject, rng: &mut Rng) {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(100);
    let goes = subject.state().is_some() && (matches!(subject.object, Object::Service(_)) || rng.one_in(6));
    let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some((n + 1) % VERSIONS)).unwrap();
    write(client, subject, (!goes).then_some(next)).await;
}

/// Writes until the write is acknowledged. Writing twice has the same result as writing once.
async fn write(client: &kube::Client, subject: &Subject, state: Option<u16>) {
    let mut state = state;
    subject.send(state);
    loop {
        let done = match subject.object {
            Object::Service(_) => set(&Api::<Service>::default_namespaced(client.clone()), subject, state).await,
            Object::Slice(_) => set(&Api::<EndpointSlice>::default_namespaced(client.clone()), subject, state).await,
        };
        match (done, &mut state) {
            (Ok(()), _) => break,
            // An API server that died between two steps of its own leaves an address allocated.
            (Err(kube::Error::Api(e)), Some(version)) if e.message.contains("already allocated") => {
                *version = (*version + 5) % VERSIONS;
                subject.send_instead(state);
            }
            (Err(_), _) => sleep(RETRY).await,
        }
    }
    subject.acknowledge();
}

async fn set<T>(api: &Api<T>, subject: &Subject, state: Option<u16>) -> kube::Result<()>
where
    T: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let name = subject.object.name();
    match state {
        Some(version) => put(api, &name, &subject.object.manifest(version)).await,
        None => match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(e)) if e.code == 404 => Ok(()),
            other => other.map(drop),
        },
    }
}

async fn put<T: Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<T>,
    name: &str,
    object: &Value,
) -> kube::Result<()> {
    api.patch(name, &PatchParams::apply("soak").force(), &Patch::Apply(object)).await.map(drop)
}
