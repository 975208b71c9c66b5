//! A watch of Services against a fake API server, in simulated time.
//!
//! [`FakeApiServer`] replies by a rule of the test; [`follow`] runs the watch and records what it does.

mod failures;
mod lists;
mod resume;
mod silence;

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use tokio::sync::mpsc::channel;
use tower::util::BoxCloneService;
use tower::{BoxError, service_fn};

use super::*;
use crate::source::kubernetes::client::{AccessError, Connection, Response};
use crate::source::kubernetes::health::Kind;
use crate::source::kubernetes::pages::TEXT_MAX;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    List,
    Watch,
    /// See [`History::probe`].
    Probe,
}

/// The response to a request.
enum Reply {
    /// The connection is refused.
    Refused,
    /// No response arrives.
    NoResponse,
    /// An error with this code.
    Status(u16),
    /// A list of objects (name and version), and the version of the list.
    Objects(&'static [(&'static str, u64)], u64),
    /// A list of this many objects of this many bytes, in pages as requested.
    Pages(usize, usize),
    /// A body with this text that ends.
    Closed(String),
    /// A body with this text that stays open.
    Open(String),
    /// A body of `times` such texts, each after a delay; it ends, or fails.
    Delayed { after: Duration, text: String, times: usize, fails: bool },
}

/// An API server whose rule gives the reply to a request, by the number of earlier requests of that kind.
#[derive(Clone)]
struct FakeApiServer {
    rule: Arc<dyn Fn(Request, usize) -> Reply + Send + Sync>,
    requests: Arc<Mutex<Vec<(Instant, Request, String)>>>,
}

/// The value of a query parameter.
fn parameter(uri: &str, name: &str) -> Option<usize> {
    uri.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')).map(|value| value.parse().unwrap())
}

impl FakeApiServer {
    fn reply(&self, uri: &http::Uri) -> Reply {
        let query = uri.query().unwrap_or_default();
        let request = if query.contains("watch=true") {
            Request::Watch
        } else if query.contains("fieldSelector") || query == "limit=1" {
            Request::Probe
        } else {
            Request::List
        };
        let mut requests = self.requests.lock().unwrap();
        let earlier = requests.iter().filter(|(_, r, _)| *r == request).count();
        requests.push((Instant::now(), request, uri.to_string()));
        (self.rule)(request, earlier)
    }

    fn count(&self, request: Request) -> usize {
        self.requests.lock().unwrap().iter().filter(|(_, r, _)| *r == request).count()
    }
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "a message",
        "reason": "Reason", "code": code})
}

fn object(name: &str, version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": version.to_string()}})
}

fn list(objects: &[(&str, u64)], version: u64) -> String {
    let items: Vec<Value> = objects.iter().map(|(name, version)| object(name, *version)).collect();
    let metadata = json!({"resourceVersion": version.to_string()});
    json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": metadata, "items": items}).to_string()
}

/// A page of a list of version 30.
fn page(uri: &str, count: usize, octets: usize) -> String {
    let from = parameter(uri, "continue").unwrap_or_default();
    let to = count.min(from + parameter(uri, "limit").unwrap());
    let long = format!(r#""metadata":{{"annotations":{{"long":"{}"}},"#, "x".repeat(octets));
    let item = |i: usize| object(&format!("s{i}"), 10 + i as u64).to_string().replace(r#""metadata":{"#, &long);
    let items: Vec<String> = (from..to).map(item).collect();
    let next = (to < count).then(|| to.to_string());
    let metadata = json!({"resourceVersion": "30", "continue": next});
    format!(r#"{{"apiVersion":"v1","kind":"ServiceList","metadata":{metadata},"items":[{}]}}"#, items.join(","))
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn respond(code: u16, text: String, ends: bool) -> Response {
    let text = stream::iter([Ok(Frame::data(Bytes::from(text)))]);
    let end = stream::once(async move { if ends { None } else { std::future::pending().await } });
    let body = StreamBody::new(text.map(Some).chain(end).filter_map(std::future::ready));
    http::Response::builder().status(code).body(body.boxed_unsync()).unwrap()
}

fn respond_late(after: Duration, text: String, times: usize, fails: bool) -> Response {
    let pieces = stream::iter(0..times).then(move |_| {
        let text = Bytes::from(text.clone());
        async move {
            sleep(after).await;
            Ok(Frame::data(text))
        }
    });
    let end = stream::once(async move { fails.then(|| Err(BoxError::from("reset"))) }).filter_map(std::future::ready);
    http::Response::new(StreamBody::new(pieces.chain(end)).boxed_unsync())
}

impl Connector for FakeApiServer {
    async fn connect(&self) -> Result<Connection, AccessError> {
        let this = self.clone();
        let serve = move |request: http::Request<kube::client::Body>| {
            let uri = request.uri().to_string();
            let reply = this.reply(request.uri());
            async move {
                match reply {
                    Reply::Refused => Err(BoxError::from("refused")),
                    Reply::NoResponse => std::future::pending().await,
                    Reply::Status(code) => Ok(respond(code, status(code).to_string(), true)),
                    Reply::Objects(objects, version) => Ok(respond(200, list(objects, version), true)),
                    Reply::Pages(count, octets) => Ok(respond(200, page(&uri, count, octets), true)),
                    Reply::Closed(text) => Ok(respond(200, text, true)),
                    Reply::Open(text) => Ok(respond(200, text, false)),
                    Reply::Delayed { after, text, times, fails } => Ok(respond_late(after, text, times, fails)),
                }
            }
        };
        Ok(BoxCloneService::new(service_fn(serve)))
    }

    fn authority(&self) -> Option<String> {
        None
    }

    fn server_name(&self) -> String {
        "the test".into()
    }
}

/// A Service, reduced to its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named(String);

impl Object for Named {
    const KIND: Kind = Kind::Services;
    type Resource = Service;
    type Key = String;

    fn from_resource(service: Service) -> Self {
        Self(Self::key_of(&service))
    }

    fn key_of(service: &Service) -> String {
        service.metadata.name.clone().unwrap()
    }

    fn key(&self) -> &String {
        &self.0
    }

    fn namespace_of(_: &String) -> Option<&str> {
        None
    }

    fn size(&self) -> usize {
        if self.0.starts_with("large") { LIST_PART / 2 } else { 1 }
    }
}

/// What a watch did.
struct Followed {
    api: FakeApiServer,
    health: Arc<Health>,
    start: Instant,
    /// The changes, and when each arrived.
    deltas: Vec<(Duration, Delta<Named>)>,
    /// The longest silence and the longest time of failing, by [`Health`].
    silent: Duration,
    broken: Duration,
    /// When the watch was re-established.
    reestablished: Vec<Duration>,
}

/// Follows Services for this long.
async fn follow(time: Duration, rule: impl Fn(Request, usize) -> Reply + Send + Sync + 'static) -> Followed {
    follow_and_relist(time, [], rule).await
}

/// Follows Services for this long, and requests lists at these times.
async fn follow_and_relist(
    time: Duration,
    relist_at: impl IntoIterator<Item = Duration>,
    rule: impl Fn(Request, usize) -> Reply + Send + Sync + 'static,
) -> Followed {
    let (relist, mut relist_at) = (Relist::default(), relist_at.into_iter().peekable());
    let api = FakeApiServer { rule: Arc::new(rule), requests: Arc::default() };
    let health = Arc::new(Health::default());
    let (sender, mut updates) = channel(16);
    let context = Context {
        connector: api.clone(),
        health: Arc::clone(&health),
        relist: relist.clone(),
        budget: Budget::default(),
    };
    let task = tokio::spawn(Watch::<Named>::follow(context, sender, |update| update));
    let start = Instant::now();
    let mut followed = Followed {
        api,
        health,
        start,
        deltas: Vec::new(),
        silent: Duration::ZERO,
        broken: Duration::ZERO,
        reestablished: Vec::new(),
    };
    while start.elapsed() < time {
        while relist_at.next_if(|at| *at <= start.elapsed()).is_some() {
            relist.request(Kind::Services);
        }
        tokio::select! {
            Some(update) = updates.recv() => {
                let Update { delta, recovery, .. } = update;
                followed.deltas.extend(delta.map(|delta| (start.elapsed(), delta)));
                let was_recovering = followed.health.is_recovering(Kind::Services);
                recovery.iter().for_each(|recovery| followed.health.recovered(recovery));
                if was_recovering && !followed.health.is_recovering(Kind::Services) {
                    followed.reestablished.push(start.elapsed());
                }
            }
            () = sleep(Duration::from_millis(500)) => {}
        }
        let state = followed.health.state(Kind::Services);
        followed.silent = followed.silent.max(state.silent);
        followed.broken = followed.broken.max(state.broken.unwrap_or_default());
    }
    task.abort();
    followed
}

impl Followed {
    fn errors(&self) -> u64 {
        self.health.state(Kind::Services).errors
    }

    /// The times of requests, since the start.
    fn times(&self, request: Request) -> Vec<Duration> {
        let requests = self.api.requests.lock().unwrap();
        requests.iter().filter(|(_, r, _)| *r == request).map(|(at, _, _)| *at - self.start).collect()
    }
}

/// The reply of an API server that lists one object first and another later, with this reply to watches.
fn changing_cluster(request: Request, earlier: usize, watch: Reply) -> Reply {
    match request {
        Request::List if earlier == 0 => Reply::Objects(&[("old", 7)], 10),
        Request::List => Reply::Objects(&[("new", 12)], 20 + earlier as u64),
        Request::Probe => Reply::Objects(&[("old", 7)], 15),
        Request::Watch => watch,
    }
}

/// The reply of an API server whose objects never change, with this reply to watches.
fn idle_cluster(request: Request, watch: Reply) -> Reply {
    match request {
        Request::Watch => watch,
        Request::List | Request::Probe => Reply::Objects(&[("old", 7)], 10),
    }
}

/// A part of a list.
fn part(names: &[&str], is_first: bool, is_last: bool) -> Delta<Named> {
    Delta::Reset(names.iter().map(|n| Named((*n).to_owned())).collect(), ListPart { is_first, is_last })
}

/// A complete list.
fn all(names: &[&str]) -> Delta<Named> {
    part(names, true, true)
}
