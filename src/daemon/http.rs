//! Serves /metrics, /healthz and /readyz. The heartbeat runs in the same thread, so the number of connections, their duration and
//! the size of a request are limited.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::ACCEPT_RETRY;
use super::state::DaemonState;
use crate::metrics;

/// Maximum of open connections. One more closes the oldest, so that idle clients can't keep others out.
const CONNECTIONS_MAX: usize = 16;
/// Maximum duration of a connection.
const DURATION_MAX: Duration = Duration::from_secs(5);
/// Maximum bytes of a request's head.
const REQUEST_MAX: usize = 8192;
/// Interval of attempts to bind an address that is in use, such as by the daemon that this one takes over from.
const BIND_RETRY: Duration = Duration::from_secs(1);

type Reply = Response<Full<Bytes>>;

/// The server. Dropping it closes the address.
pub(super) struct Http(JoinHandle<()>);

impl Http {
    /// Starts to serve at `addr` (`host:port`).
    pub(super) fn serve(addr: &str, state: &Rc<RefCell<DaemonState>>) -> Self {
        Self(spawn_local(run(addr.into(), Rc::clone(state))))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(addr: String, state: Rc<RefCell<DaemonState>>) {
    let listener = listen(&addr).await;
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() == CONNECTIONS_MAX
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(spawn_local(serve_connection(stream, Rc::clone(&state))).abort_handle());
            }
            Err(e) => {
                log::warn!("MetricsAddr: {e}");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn listen(addr: &str) -> TcpListener {
    let mut is_first = true;
    loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => {
                let at = listener.local_addr().map_or_else(|_| addr.into(), |a| a.to_string());
                log::info!("metrics at http://{at}/metrics");
                return listener;
            }
            Err(e) if is_first => log::warn!("MetricsAddr: {addr}: {e}; retrying until it succeeds"),
            Err(e) => log::debug!("MetricsAddr: {addr}: {e}"),
        }
        is_first = false;
        sleep(BIND_RETRY).await;
    }
}

async fn serve_connection(stream: TcpStream, state: Rc<RefCell<DaemonState>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let reply = reply(request.method(), request.uri().path(), &state.borrow());
        async { Ok::<_, Infallible>(reply) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(REQUEST_MAX);
    match timeout(DURATION_MAX, http.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => log::debug!("MetricsAddr: a client: {e}"),
        Err(_) => log::debug!("MetricsAddr: a client was too slow"),
    }
}

fn reply(method: &Method, path: &str, state: &DaemonState) -> Reply {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
    }
    let health = |problem: Option<String>, healthy: &str| match problem {
        Some(problem) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
        None => text(StatusCode::OK, healthy.into()),
    };
    match path {
        "/metrics" => {
            let page = state
                .stats()
                .map_err(|e| e.to_string())
                .and_then(|stats| metrics::page(&stats, &state.status.programming).map_err(|e| e.to_string()));
            page.map_or_else(|e| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")), metrics_page)
        }
        "/healthz" => {
            let silent = (!state.status.is_alive()).then(|| "the heartbeat does not reach the program".into());
            health(silent, "alive\n")
        }
        "/readyz" => health(state.not_ready(), "ready\n"),
        _ => text(StatusCode::NOT_FOUND, "not found; try /metrics, /healthz or /readyz\n".into()),
    }
}

fn metrics_page(page: String) -> Reply {
    let mut reply = text(StatusCode::OK, page);
    reply.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(prometheus::TEXT_FORMAT));
    reply
}

fn text(status: StatusCode, text: String) -> Reply {
    let mut reply = Response::new(Full::from(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}
