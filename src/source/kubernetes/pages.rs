//! Limits the size of one page of a list. The API limits the number of objects, and one may be a thousand times as large as
//! another, while memory limits bytes. So a page that becomes too long is dropped while it arrives, and requested again with
//! fewer objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tower::BoxError;

/// The most bytes of a page or an event. The parsed objects take several times as much.
pub(super) const TEXT_MAX: usize = 8 << 20;
/// The factor by which the limit shrinks after a page that was too long.
const SHRINK: u32 = 4;
/// The limit may double after a page shorter than 1/`SHORT` of [`TEXT_MAX`]. The next page then has less than half of
/// [`TEXT_MAX`].
const SHORT: usize = 5;
/// The query parameter for the most objects of a page.
const LIMIT: &str = "limit=";

/// A page or an event is longer than [`TEXT_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLong {
    #[error("a response is longer than {} MiB", TEXT_MAX >> 20)]
    Response,
    #[error("an event is longer than {} MiB", TEXT_MAX >> 20)]
    Event,
}

/// The most objects to request per page of a kind. Kept from list to list.
#[derive(Debug, Clone)]
pub(super) struct Pages(Arc<AtomicU32>);

impl Default for Pages {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(u32::MAX)))
    }
}

impl Pages {
    /// Lowers the limit of a list request. Continue tokens are valid with any limit.
    pub(super) fn apply_to(&self, request: &mut Parts) -> http::Result<()> {
        let Some(requested_limit) = requested_limit(request) else { return Ok(()) };
        let limit = requested_limit.min(self.0.load(Ordering::Relaxed));
        let query = request.uri.query().unwrap_or_default();
        let parameter = |p: &str| if p.starts_with(LIMIT) { format!("{LIMIT}{limit}") } else { p.into() };
        let query: Vec<String> = query.split('&').map(parameter).collect();
        request.uri =
            http::Uri::builder().path_and_query(format!("{}?{}", request.uri.path(), query.join("&"))).build()?;
        Ok(())
    }

    /// Lowers the limit after this request's page was too long. False: it was one object already.
    pub(super) fn shrink(&self, request: &Parts) -> bool {
        let Some(limit) = requested_limit(request).filter(|n| *n > 1) else { return false };
        self.0.store((limit / SHRINK).max(1), Ordering::Relaxed);
        true
    }

    /// Raises the limit after a short page.
    pub(super) fn record_size(&self, octets: usize) {
        if octets < TEXT_MAX / SHORT {
            let double = |n: u32| Some(n.saturating_mul(2));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, double);
        }
    }
}

/// The limit of a list request; None for a watch.
fn requested_limit(request: &Parts) -> Option<u32> {
    request.uri.query()?.split('&').find_map(|p| p.strip_prefix(LIMIT))?.parse().ok()
}

/// Reads a body that ends. Returns [`TooLong`] as soon as it is too long.
pub(super) async fn read(mut body: impl Body<Data = Bytes, Error = BoxError> + Unpin) -> Result<Bytes, BoxError> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if text.len() + data.len() > TEXT_MAX {
            return Err(TooLong::Response.into());
        }
        text.extend_from_slice(&data);
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(limit: u32) -> Parts {
        let uri = format!("/api/v1/services?&limit={limit}&continue=limit%3D7");
        http::Request::get(uri).body(()).unwrap().into_parts().0
    }

    /// The request for a page of 500 objects after the limit is applied.
    fn page_request(pages: &Pages) -> Parts {
        let mut request = list(500);
        pages.apply_to(&mut request).unwrap();
        request
    }

    #[test]
    fn pages_shrink_to_one_object_and_grow_again() {
        let pages = Pages::default();
        for limit in [500, 125, 31, 7, 1] {
            assert_eq!(page_request(&pages).uri, list(limit).uri);
            assert_eq!(pages.shrink(&page_request(&pages)), limit > 1);
        }
        pages.record_size(TEXT_MAX / 2);
        assert_eq!(requested_limit(&page_request(&pages)), Some(1), "two objects may be too long");
        for limit in [2, 4, 8, 16, 32, 64, 128, 256, 500, 500] {
            pages.record_size(1000);
            assert_eq!(requested_limit(&page_request(&pages)), Some(limit));
        }
        assert!(pages.shrink(&page_request(&pages)));
        assert_eq!(requested_limit(&page_request(&pages)), Some(125), "a quarter of the request's limit");
    }

    #[test]
    fn a_watch_request_is_not_changed() {
        let pages = Pages::default();
        let mut request = http::Request::get("/api/v1/services?watch=true").body(()).unwrap().into_parts().0;
        assert!(pages.apply_to(&mut request).is_ok() && !pages.shrink(&request));
        assert_eq!(request.uri, "/api/v1/services?watch=true");
    }
}
