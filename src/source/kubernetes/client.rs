//! The connection to the API server: credentials, time-outs, and detection of a peer that is gone.

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
use super::errors::causes;
use super::failures::Progress;
use super::health::{Health, Kind};
use super::history::{History, MetadataList};
use super::pages::{self, Pages, TooLong};

/// Long enough for a second SYN, and shorter than the backoff after failures.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The API server counts as unreachable if the head of a response takes longer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// The shortest time from the begin of a watch to that of the next.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// TCP keep-alive: the first probe after this much silence, the interval of further probes, and the number of unanswered ones
/// that ends the connection. A watch is silent for a minute at a time, and a firewall that drops everything looks the same.
const KEEPALIVE: Duration = Duration::from_secs(4);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// The longest time that sent data stays unacknowledged (TCP_USER_TIMEOUT).
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// How the daemon authenticates to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// The service account of a pod.
    InCluster,
    /// A kubeconfig file. None: `$KUBECONFIG`, otherwise the one in the home directory.
    KubeConfig(Option<PathBuf>),
}

/// Why there is no connection to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is no service account.
    #[error("IsInK8S: not in a pod with a service account: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// The kubeconfig is missing or invalid.
    #[error("KubeConfig: {0}")]
    KubeConfig(#[from] kube::config::KubeconfigError),
    /// The credentials can't be used.
    #[error("connection to the API server: {0}")]
    Client(#[from] kube::Error),
    /// The API server's certificate is not signed by the configured CA: the place that configures it, and the error.
    #[error("the API server's certificate is not signed by the CA in {0}")]
    Authority(String, #[source] BoxError),
    /// The API server's certificate is not valid for the name in use: the place that configures the name, and the error.
    #[error("the API server's certificate is not valid for the name in use; set {0} to a name in it")]
    Name(String, #[source] BoxError),
}

impl Access {
    /// Reads the credentials. To be called for each connection, as tokens and certificates rotate.
    ///
    /// # Errors
    /// If files are missing or invalid.
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

/// Connects to the API server. Tests replace it.
pub(super) trait Connector: Clone + Send + Sync + 'static {
    /// Opens a connection with the current credentials.
    fn connect(&self) -> impl Future<Output = Result<Connection, AccessError>> + Send;

    /// The place that configures the CA certificate.
    fn authority(&self) -> Option<String>;

    /// The place that configures the name of the API server.
    fn server_name(&self) -> String;
}

impl Connector for Access {
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
            (None, None) => format!("the system's CA list ({file} names no CA)"),
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

/// Creates the client of one kind. It records all data in `health` and the responses in `progress`, and resumes no watch on an
/// API server with a different history.
pub(super) fn client(
    connector: impl Connector,
    kind: Kind,
    health: Arc<Health>,
    history: History,
    progress: Progress,
) -> kube::Client {
    let (pages, connection, last_watch, was_list) = Default::default();
    let requests = Requests { connector, kind, health, history, progress, pages, connection, last_watch, was_list };
    kube::Client::new(requests, "default")
}

/// Sends requests. It reconnects after a failed one, as addresses, tokens and certificates may have changed; watches need no
/// new list for that. It records each piece of a response as it arrives, because kube's watcher does not pass bookmarks on.
#[derive(Clone)]
struct Requests<W> {
    connector: W,
    kind: Kind,
    health: Arc<Health>,
    history: History,
    progress: Progress,
    pages: Pages,
    connection: Arc<Mutex<Option<Connection>>>,
    /// When the last watch began.
    last_watch: Arc<Mutex<Option<Instant>>>,
    /// Whether the last request was a list. The watch that follows a list needs no check of the history.
    was_list: Arc<AtomicBool>,
}

impl<W: Connector> Requests<W> {
    async fn send(self, request: http::Request<Body>) -> Result<Response, BoxError> {
        let is_watch = is_watch(request.uri());
        if is_watch {
            // kube's watcher resumes a watch at once that ended without an error.
            let last = *self.last_watch.lock().await;
            sleep_until(last.map_or_else(Instant::now, |at| at + WATCH_INTERVAL)).await;
        }
        let (request, body) = request.into_parts();
        if is_watch {
            let response = self.fetch(http::Request::from_parts(request, body)).await?;
            if !response.status().is_success() {
                return buffer(response).await;
            }
            self.health.begin_watch(self.kind);
            *self.last_watch.lock().await = Some(Instant::now());
            return Ok(response.map(|body| WatchBody::new(body, self.progress, self.history).boxed_unsync()));
        }
        // List requests have no body.
        loop {
            let mut page = request.clone();
            self.pages.apply_to(&mut page)?;
            let response = self.fetch(http::Request::from_parts(page.clone(), Body::empty())).await?;
            let is_page = response.status().is_success();
            match buffer(response).await {
                Err(e) if is_page && e.is::<TooLong>() && self.pages.shrink(&page) => {
                    log::debug!("Kubernetes: {}: {e}: retrying with fewer objects per page", self.kind.plural());
                }
                response => {
                    if let Some(response) = response.as_ref().ok().filter(|_| is_page) {
                        self.pages.record_size(response.body().size_hint().lower() as usize);
                    }
                    return response;
                }
            }
        }
    }

    /// Sends a request. Returns the head of the response with the body to come.
    async fn fetch(&self, request: http::Request<Body>) -> Result<Response, BoxError> {
        self.progress.begin_request();
        let mut connection = self.connection.lock().await;
        let response = match timeout(RESPONSE_TIMEOUT, self.exchange(&mut connection, request)).await {
            Ok(response) => response,
            Err(_) => Err(format!("no response within {} s", RESPONSE_TIMEOUT.as_secs()).into()),
        };
        if !response.as_ref().is_ok_and(|r| r.status().is_success()) {
            *connection = None;
        }
        let response = response.map_err(|e| self.explain(e))?;
        self.progress.record_status(response.status());
        // An error shows that the API server is reachable, but not that the view is current.
        if !response.status().is_success() {
            return Ok(response);
        }
        self.health.record_data(self.kind);
        let (health, kind) = (Arc::clone(&self.health), self.kind);
        let record = move |frame| {
            health.record_data(kind);
            frame
        };
        Ok(response.map(|body| body.map_frame(record).boxed_unsync()))
    }

    /// Adds the setting to correct to a certificate error.
    fn explain(&self, error: BoxError) -> BoxError {
        use rustls::CertificateError::{BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer};
        let of_certificate = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref() {
            Some(rustls::Error::InvalidCertificate(why)) => Some(why.clone()),
            _ => None,
        };
        let why = causes(&*error).find_map(of_certificate);
        match why {
            Some(UnknownIssuer | BadSignature) => {
                let place = self.connector.authority().unwrap_or_else(|| "the config".into());
                AccessError::Authority(place, error).into()
            }
            Some(NotValidForName | NotValidForNameContext { .. }) => {
                AccessError::Name(self.connector.server_name(), error).into()
            }
            _ => error,
        }
    }

    async fn exchange(
        &self,
        connection: &mut Option<Connection>,
        request: http::Request<Body>,
    ) -> Result<Response, BoxError> {
        let is_watch = is_watch(request.uri());
        let is_resumed = is_watch && !self.was_list.load(Ordering::Relaxed);
        self.was_list.store(!is_watch, Ordering::Relaxed);
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.connector.connect().await?),
        };
        if is_resumed {
            let reply = connection.clone().oneshot(self.history.probe(request.uri())?).await?;
            self.progress.record_status(reply.status());
            if !reply.status().is_success() {
                return Ok(reply);
            }
            let list: MetadataList = serde_json::from_slice(&pages::read(reply.into_body()).await?)?;
            self.history.check(request.uri(), &list)?;
        }
        connection.clone().oneshot(request).await
    }
}

/// Reads the whole body of a list or an error.
async fn buffer(response: Response) -> Result<Response, BoxError> {
    let (head, body) = response.into_parts();
    let body = Full::new(pages::read(body).await?).map_err(|never| match never {});
    Ok(Response::from_parts(head, body.boxed_unsync()))
}

fn is_watch(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|q| q.split('&').any(|p| p == "watch=true"))
}

impl<W: Connector> Service<http::Request<Body>> for Requests<W> {
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
    async fn the_error_names_a_missing_kubeconfig() {
        let error = Access::KubeConfig(Some("/nowhere/kubeconfig".into())).config().await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/kubeconfig"), "{error}");
    }
}
