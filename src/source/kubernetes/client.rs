//! The way to the API server: who we are there, and a connection that notices when nobody is at the other end.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tower::util::BoxCloneService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use super::body::WatchBody;
use super::failures::Work;
use super::health::{Health, Kind};
use super::pages::{self, Pages, TooLong};
use super::past::{List, Past};
use super::trouble::causes;

/// Time for a second SYN, and less than a wait after failures.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Without the head of a response for so long, nobody is at work there.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// At least, from the beginning of a watch to that of the next.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that says nothing is asked on TCP's level after this, and again after each interval; so many unanswered end the
/// connection. A watch is silent for a minute by nature, and a firewall that drops everything looks just the same.
const KEEPALIVE: Duration = Duration::from_secs(4);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// The same for what we sent and nobody acknowledges.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Who we are to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A pod's service account.
    InCluster,
    /// A kubeconfig file; None: $KUBECONFIG, else the home directory's.
    KubeConfig(Option<PathBuf>),
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Not in a pod.
    #[error("IsInK8S: this is no pod with a service account: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// The file.
    #[error("KubeConfig: {0}")]
    KubeConfig(#[from] kube::config::KubeconfigError),
    /// What is in it.
    #[error("the way to the API server: {0}")]
    Client(#[from] kube::Error),
    /// The API server's certificate is signed by nobody whom the config knows: where the CA's certificate stands, and why.
    #[error("the API server's certificate is not signed by the CA in {0}")]
    Authority(String, #[source] BoxError),
    /// The API server's certificate is not for the name that it is reached by: where that stands, and why.
    #[error("the API server's certificate is for other names: let {0} be one of them")]
    Name(String, #[source] BoxError),
}

impl Access {
    /// Reads it anew each time: tokens and certificates rotate.
    ///
    /// # Errors
    /// Where files are not there, or not what they should be.
    pub async fn config(&self) -> Result<kube::Config, AccessError> {
        match self {
            Self::InCluster => Ok(kube::Config::incluster()?),
            Self::KubeConfig(path) => {
                let kubeconfig = path.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from)?;
                Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
            }
        }
    }
}

/// How the API server is reached.
pub(super) trait Way: Clone + Send + Sync + 'static {
    /// Connects as it is done at present.
    fn connect(&self) -> impl Future<Output = Result<Connection, AccessError>> + Send;

    /// Where the certificate of the CA stands that the API server's has to be signed by.
    fn authority(&self) -> Option<String>;

    /// Where the name stands that the API server's certificate has to be for.
    fn server_name(&self) -> String;
}

impl Way for Access {
    async fn connect(&self) -> Result<Connection, AccessError> {
        let config = self.config().await?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        connector.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let connector = config.rustls_https_connector_with_connector(connector)?;
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .map_err(BoxError::from)
            .map_response(|r: http::Response<Incoming>| r.map(|body| body.map_err(Into::into).boxed_unsync()))
            .service(HttpClient::builder(TokioExecutor::new()).build(connector));
        Ok(BoxCloneService::new(service))
    }

    fn authority(&self) -> Option<String> {
        let path = match self {
            Self::InCluster => return Some(kube::Config::incluster().ok()?.root_cert_file?.display().to_string()),
            Self::KubeConfig(path) => path,
        };
        let kubeconfig = path.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from).ok()?;
        let context = kubeconfig.current_context?;
        let context = kubeconfig.contexts.into_iter().find(|c| c.name == context)?.context?;
        let cluster = kubeconfig.clusters.into_iter().find(|c| c.name == context.cluster)?.cluster?;
        let file = path.as_ref().map_or_else(|| "the kubeconfig".into(), |p| p.display().to_string());
        Some(match (cluster.certificate_authority_data, cluster.certificate_authority) {
            (Some(_), _) => format!("certificate-authority-data of {file}"),
            (None, Some(path)) => path,
            (None, None) => format!("this system's list, and {file} names none"),
        })
    }

    fn server_name(&self) -> String {
        match self {
            Self::InCluster => "KUBERNETES_SERVICE_HOST".into(),
            Self::KubeConfig(path) => {
                let file = path.as_ref().map_or_else(|| "the kubeconfig".into(), |p| p.display().to_string());
                format!("server or tls-server-name in {file}")
            }
        }
    }
}

pub(super) type Connection = BoxCloneService<http::Request<Body>, Response, BoxError>;
pub(super) type Response = http::Response<UnsyncBoxBody<Bytes, BoxError>>;

/// A client for the objects of one kind, that tells `health` of all that comes from the API server, `work` of what that did,
/// and lets no watch go on where it has another past.
pub(super) fn client(way: impl Way, kind: Kind, health: Arc<Health>, past: Past, work: Work) -> kube::Client {
    let (pages, connection, watched, listed) = Default::default();
    let requests = Requests { way, kind, health, past, work, pages, connection, watched, listed };
    kube::Client::new(requests, "default")
}

/// Makes requests, and after one that failed connects anew: addresses, tokens and certificates may be others by then, and
/// what watches need not begin anew for that. Tells of each piece of a response as it comes, since bookmarks never get past
/// kube's watcher.
#[derive(Clone)]
struct Requests<W> {
    way: W,
    kind: Kind,
    health: Arc<Health>,
    past: Past,
    work: Work,
    pages: Pages,
    connection: Arc<Mutex<Option<Connection>>>,
    /// When the last watch began.
    watched: Arc<Mutex<Option<Instant>>>,
    /// Whether a list was asked for last: nothing can have happened in between that the watch behind it would miss.
    listed: Arc<AtomicBool>,
}

impl<W: Way> Requests<W> {
    async fn send(self, request: http::Request<Body>) -> Result<Response, BoxError> {
        let is_watch = is_watch(request.uri());
        if is_watch {
            // One that ends without an error is begun again at once.
            let last = *self.watched.lock().await;
            sleep_until(last.map_or_else(Instant::now, |at| at + WATCH_INTERVAL)).await;
        }
        let (request, body) = request.into_parts();
        if is_watch {
            let response = self.ask(http::Request::from_parts(request, body)).await?;
            if !response.status().is_success() {
                return whole(response).await;
            }
            self.health.begin_watch(self.kind);
            *self.watched.lock().await = Some(Instant::now());
            return Ok(response.map(|body| WatchBody::new(body, self.work, self.past).boxed_unsync()));
        }
        // Lists have no body.
        loop {
            let mut page = request.clone();
            self.pages.cut(&mut page)?;
            let response = self.ask(http::Request::from_parts(page.clone(), Body::empty())).await?;
            let is_page = response.status().is_success();
            match whole(response).await {
                Err(e) if is_page && e.is::<TooLong>() && self.pages.shrink(&page) => {
                    log::debug!("Kubernetes: {}: {e}: asked for again with fewer objects", self.kind.plural());
                }
                response => {
                    if let Some(response) = response.as_ref().ok().filter(|_| is_page) {
                        self.pages.fits(response.body().size_hint().lower() as usize);
                    }
                    return response;
                }
            }
        }
    }

    /// Sends a request, and returns the beginning of what comes.
    async fn ask(&self, request: http::Request<Body>) -> Result<Response, BoxError> {
        self.work.begin();
        let mut connection = self.connection.lock().await;
        let response = match timeout(RESPONSE_TIMEOUT, self.respond(&mut connection, request)).await {
            Ok(response) => response,
            Err(_) => Err(format!("no response within {} s", RESPONSE_TIMEOUT.as_secs()).into()),
        };
        if !response.as_ref().is_ok_and(|r| r.status().is_success()) {
            *connection = None;
        }
        let response = response.map_err(|e| self.explain(e))?;
        self.work.note(response.status());
        // An error is a word of the API server, too, but not about what exists.
        if !response.status().is_success() {
            return Ok(response);
        }
        self.health.hear(self.kind);
        let (health, kind) = (Arc::clone(&self.health), self.kind);
        let heard = move |frame| {
            health.hear(kind);
            frame
        };
        Ok(response.map(|body| body.map_frame(heard).boxed_unsync()))
    }

    /// Says where that stands which does not go with the API server's certificate.
    fn explain(&self, error: BoxError) -> BoxError {
        use rustls::CertificateError::{BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer};
        let of_certificate = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref() {
            Some(rustls::Error::InvalidCertificate(why)) => Some(why.clone()),
            _ => None,
        };
        let why = causes(&*error).find_map(of_certificate);
        match why {
            Some(UnknownIssuer | BadSignature) => {
                let place = self.way.authority().unwrap_or_else(|| "the config".into());
                AccessError::Authority(place, error).into()
            }
            Some(NotValidForName | NotValidForNameContext { .. }) => {
                AccessError::Name(self.way.server_name(), error).into()
            }
            _ => error,
        }
    }

    async fn respond(
        &self,
        connection: &mut Option<Connection>,
        request: http::Request<Body>,
    ) -> Result<Response, BoxError> {
        let is_watch = is_watch(request.uri());
        let is_resumed = is_watch && !self.listed.load(Ordering::Relaxed);
        self.listed.store(!is_watch, Ordering::Relaxed);
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.way.connect().await?),
        };
        if is_resumed {
            let reply = connection.clone().oneshot(self.past.question(request.uri())?).await?;
            self.work.note(reply.status());
            if !reply.status().is_success() {
                return Ok(reply);
            }
            let list: List = serde_json::from_slice(&pages::read(reply.into_body()).await?)?;
            self.past.check(request.uri(), &list)?;
        }
        connection.clone().oneshot(request).await
    }
}

/// Reads a response that is to end.
async fn whole(response: Response) -> Result<Response, BoxError> {
    let (head, body) = response.into_parts();
    let body = Full::new(pages::read(body).await?).map_err(|never| match never {});
    Ok(Response::from_parts(head, body.boxed_unsync()))
}

fn is_watch(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|q| q.split('&').any(|p| p == "watch=true"))
}

impl<W: Way> Service<http::Request<Body>> for Requests<W> {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let error = Access::KubeConfig(Some("/nowhere/kubeconfig".into())).config().await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/kubeconfig"), "{error}");
    }
}
