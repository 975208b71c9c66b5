//! A proxy between the daemon and the API server, which can break watches and lists.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use edns::source::kubernetes::Access;
use futures_util::{StreamExt as _, future};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::lab::Lab;

/// On the node.
pub const PORT: u16 = 8080;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Through,
    /// Each watch gets 410, as the HTTP status or as its first event.
    Gone,
    GoneInStream,
    /// Each watch gets 500, as the HTTP status or as its first event.
    Error,
    ErrorInStream,
    /// Each watch ends in the middle of its first event.
    Half,
    /// Each watch gets 410, and each list ends in the middle.
    HalfLists,
}

pub struct Proxy {
    mode: watch::Sender<Mode>,
    thread: Option<JoinHandle<()>>,
}

type Response = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Proxy {
    /// Starts it on the node, with the credentials of this kubeconfig.
    pub fn new(lab: &Lab, kubeconfig: &Path) -> Self {
        let netns = lab.netns("host").handle();
        let kubeconfig = kubeconfig.to_owned();
        let (mode, modes) = watch::channel(Mode::Through);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            netns.enter();
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).await.unwrap();
                ready.send(()).unwrap();
                serve(&listener, kubeconfig, modes).await;
            });
        });
        is_ready.recv().unwrap();
        Self { mode, thread: Some(thread) }
    }

    /// Changes the mode. Open watches end.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The thread ends when its sender is dropped.
        self.mode = watch::channel(Mode::Through).0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: &TcpListener, kubeconfig: PathBuf, modes: watch::Receiver<Mode>) {
    let mut end = modes.clone();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            over = async { while end.changed().await.is_ok() {} } => return over,
        };
        let (kubeconfig, modes) = (kubeconfig.clone(), modes.clone());
        let service = service_fn(move |request| {
            let (kubeconfig, modes) = (kubeconfig.clone(), modes.clone());
            async move { Ok::<_, Infallible>(reply(request, kubeconfig, modes).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn reply(request: http::Request<Incoming>, kubeconfig: PathBuf, mut modes: watch::Receiver<Mode>) -> Response {
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let mode = *modes.borrow_and_update();
    match mode {
        _ if !is_watch => {}
        Mode::Gone | Mode::HalfLists => return text(410, status(410).to_string()),
        Mode::Error => return text(500, status(500).to_string()),
        Mode::GoneInStream => return text(200, event(&status(410))),
        Mode::ErrorInStream => return text(200, event(&status(500))),
        Mode::Through | Mode::Half => {}
    }
    // A new configuration each time, because a restarted API server is another one.
    let config = Access::KubeConfig(Some(kubeconfig)).config().await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let path = request.uri().path_and_query().unwrap().clone();
    let mut forwarded = http::Request::builder().method(request.method()).uri(path.as_str());
    for name in ["accept", "accept-encoding"] {
        forwarded = request.headers().get(name).into_iter().fold(forwarded, |f, value| f.header(name, value));
    }
    let Ok(response) = client.send(forwarded.body(Body::empty()).unwrap()).await else {
        return text(502, status(502).to_string());
    };
    let (head, body) = response.into_parts();
    let frames = BodyStream::new(body).filter_map(|frame| future::ready(frame.ok()));
    let is_half = if is_watch { mode == Mode::Half } else { mode == Mode::HalfLists };
    let frames = if is_half { frames.take(1).map(half).left_stream() } else { frames.right_stream() };
    // A list continues when the mode changes; the client has to detect a broken one.
    let changed = async move {
        if is_watch {
            let _ = modes.changed().await;
        } else {
            future::pending().await
        }
    };
    let frames = frames.take_until(Box::pin(changed)).map(Ok);
    let mut response = http::Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = head.status;
    for name in [http::header::CONTENT_TYPE, http::header::CONTENT_ENCODING] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn half(frame: Frame<Bytes>) -> Frame<Bytes> {
    frame.map_data(|data| data.slice(..data.len() / 2))
}

fn text(code: u16, text: String) -> Response {
    http::Response::builder().status(code).body(Full::from(text).boxed_unsync()).unwrap()
}

fn event(object: &Value) -> String {
    format!("{}\n", json!({"type": "ERROR", "object": object}))
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "a bad day",
        "reason": "BadDay", "code": code})
}
