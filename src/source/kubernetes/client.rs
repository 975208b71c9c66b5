//! The way to the API server: who we are there, and a connection that notices when nobody is at the other end.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::{BoxError, Layer, Service, ServiceBuilder};

use super::health::{Health, Kind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
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

    /// A client that tells `health` of all that comes from the API server.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub(super) async fn client(&self, health: &Arc<Health>) -> Result<kube::Client, AccessError> {
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
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        let listen = Listen { health: Arc::clone(health) };
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .layer(listen)
            .map_err(BoxError::from)
            .service(http);
        Ok(kube::Client::new(service, config.default_namespace))
    }
}

/// Tells of each piece of a response as it comes: bookmarks and keep-alives never get past kube's watcher.
#[derive(Clone)]
struct Listen {
    health: Arc<Health>,
}

impl<S> Layer<S> for Listen {
    type Service = Listening<S>;

    fn layer(&self, inner: S) -> Listening<S> {
        Listening { inner, health: Arc::clone(&self.health) }
    }
}

#[derive(Clone)]
struct Listening<S> {
    inner: S,
    health: Arc<Health>,
}

/// What a request is about; None for none of what is watched.
fn kind_of(path: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|k| path.rsplit('/').next() == Some(k.plural()))
}

type Response = http::Response<http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>>;

impl<S, B> Service<http::Request<Body>> for Listening<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let kind = kind_of(request.uri().path());
        let is_watch = request.uri().query().is_some_and(|q| q.split('&').any(|p| p == "watch=true"));
        let health = Arc::clone(&self.health);
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            // An error is a word of the API server, too, but not about what exists.
            let kind = kind.filter(|_| response.status().is_success());
            if let Some(kind) = kind {
                health.hear(kind);
                if is_watch {
                    health.mend(kind);
                }
            }
            let heard = move |frame| {
                if let Some(kind) = kind {
                    health.hear(kind);
                }
                frame
            };
            Ok(response.map(|body| body.map_frame(heard).map_err(Into::into).boxed_unsync()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_a_request_is_about() {
        assert_eq!(kind_of("/api/v1/services"), Some(Kind::Services));
        assert_eq!(kind_of("/apis/discovery.k8s.io/v1/endpointslices"), Some(Kind::EndpointSlices));
        assert_eq!(kind_of("/api/v1/namespaces"), Some(Kind::Namespaces));
        assert_eq!(kind_of("/version"), None);
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let error = Access::KubeConfig(Some("/nowhere/kubeconfig".into())).config().await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/kubeconfig"), "{error}");
    }
}
