//! Writes objects, and tries again while the API server is away.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use edns::source::kubernetes::Access;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::lab::Lab;

/// Between tries while the API server doesn't answer.
const RETRY: Duration = Duration::from_millis(200);
const TRIES: u32 = 300;

/// The wanted state of an object; None deletes it.
#[derive(Debug, Clone)]
pub struct Write {
    /// The path of the object in the API.
    pub path: String,
    pub object: Option<Value>,
}

/// The reason if the API server refuses the write.
pub type Outcome = Result<(), String>;

/// A thread in the lab's `host`. It ends when this is dropped.
pub struct Writer {
    orders: Sender<Write>,
    outcomes: Receiver<Outcome>,
}

impl Writer {
    pub fn new(lab: &Lab) -> Self {
        let netns = lab.netns("host").handle();
        let kubeconfig = lab.path("kubeconfig");
        let (orders, ordered) = channel();
        let (done, outcomes) = channel();
        thread::spawn(move || {
            netns.enter();
            work(kubeconfig, &ordered, &done);
        });
        Self { orders, outcomes }
    }

    pub fn write(&self, write: &Write) -> Outcome {
        self.orders.send(write.clone()).expect("the writer lives");
        self.outcomes.recv().expect("the writer lives")
    }
}

fn work(kubeconfig: PathBuf, orders: &Receiver<Write>, done: &Sender<Outcome>) {
    // This program also uses the daemon's library, and there may be another provider of cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let config = Access::KubeConfig(Some(kubeconfig)).config().await.unwrap();
        kube::Client::try_from(config).unwrap()
    });
    for write in orders {
        let is_namespace = write.path.starts_with("/api/v1/namespaces/") && write.path.matches('/').count() == 4;
        let outcome = runtime.block_on(async {
            match &write.object {
                Some(object) => put(&client, &write.path, object).await,
                None if is_namespace => end_namespace(&client, &write.path).await,
                None => ask(&client, http::Method::DELETE, &write.path, None).await.map(drop),
            }
        });
        if done.send(outcome).is_err() {
            return;
        }
    }
}

async fn put(client: &kube::Client, path: &str, object: &Value) -> Outcome {
    let path = format!("{path}?fieldManager=differential&force=true");
    ask(client, http::Method::PATCH, &path, Some(object)).await.map(drop)
}

/// Ends a namespace, in place of the controller, which doesn't run here.
async fn end_namespace(client: &kube::Client, path: &str) -> Outcome {
    ask(client, http::Method::DELETE, path, None).await?;
    let mut namespace: Value = serde_json::from_str(&ask(client, http::Method::GET, path, None).await?).unwrap();
    namespace["spec"]["finalizers"] = json!([]);
    ask(client, http::Method::PUT, &format!("{path}/finalize"), Some(&namespace)).await.map(drop)
}

/// Sends a request until the API server answers. A starting API server answers 403 for a moment.
async fn ask(client: &kube::Client, method: http::Method, path: &str, body: Option<&Value>) -> Result<String, String> {
    let kind = if method == http::Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
    let mut last = String::new();
    for _ in 0..TRIES {
        let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let request = http::Request::builder().method(method.clone()).uri(path).header("content-type", kind);
        match client.request_text(request.body(body).unwrap()).await {
            Ok(text) => return Ok(text),
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && ![403, 429].contains(&status.code) =>
            {
                return Err(status.message.clone());
            }
            Err(e) => last = e.to_string(),
        }
        sleep(RETRY).await;
    }
    panic!("{method} {path}: {last}");
}
