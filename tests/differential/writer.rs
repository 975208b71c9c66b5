//! Writes objects, whatever becomes of the API server.

use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use edns::source::kubernetes::Access;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::lab::Lab;

/// Between tries, while nobody answers.
const RETRY: Duration = Duration::from_millis(200);
const TRIES: u32 = 300;

/// That an object shall be there like this, or not be there.
pub struct Write {
    /// Of the object in the API.
    pub path: String,
    pub object: Option<Value>,
}

pub struct Writer {
    netns: File,
    kubeconfig: PathBuf,
}

impl Writer {
    /// In the lab, where the API server is.
    pub fn new(lab: &Lab) -> Self {
        let netns = File::open(format!("/run/netns/{}", lab.ns("host"))).unwrap();
        Self { netns, kubeconfig: lab.path("kubeconfig") }
    }

    /// Returns why the API server refuses it, where it does.
    pub fn write(&self, write: &Write) -> Result<(), String> {
        let run = || {
            setns(&self.netns, CloneFlags::CLONE_NEWNET).unwrap();
            // The daemon's library is used by this program too, and with it another provider of cryptography may be.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let config = Access::KubeConfig(Some(self.kubeconfig.clone())).config().await.unwrap();
                let client = kube::Client::try_from(config).unwrap();
                match &write.object {
                    Some(object) => put(&client, &write.path, object).await,
                    None if write.path.starts_with("/api/v1/namespaces/") && write.path.matches('/').count() == 4 => {
                        end_namespace(&client, &write.path).await
                    }
                    None => ask(&client, http::Method::DELETE, &write.path, None).await.map(drop),
                }
            })
        };
        thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
    }
}

async fn put(client: &kube::Client, path: &str, object: &Value) -> Result<(), String> {
    let path = format!("{path}?fieldManager=differential&force=true");
    ask(client, http::Method::PATCH, &path, Some(object)).await.map(drop)
}

/// What a controller does that there is none of here.
async fn end_namespace(client: &kube::Client, path: &str) -> Result<(), String> {
    ask(client, http::Method::DELETE, path, None).await?;
    let mut namespace: Value = serde_json::from_str(&ask(client, http::Method::GET, path, None).await?).unwrap();
    namespace["spec"]["finalizers"] = json!([]);
    ask(client, http::Method::PUT, &format!("{path}/finalize"), Some(&namespace)).await.map(drop)
}

/// Asks until somebody answers.
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
