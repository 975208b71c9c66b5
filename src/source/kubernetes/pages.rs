//! How much of a list comes at once. The API counts objects, which may be a thousand times as large as others; what has to fit
//! into memory are octets. So a page that is too long is dropped while it comes, and asked for again with fewer objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tower::BoxError;

/// Octets of a page, or of an event, at most. What they are read into takes several times as much.
pub(super) const TEXT_MAX: usize = 8 << 20;
/// From a page that is too long to the next try.
const SHRINK: u32 = 4;
/// Pages that are shorter than this part of the most may grow again: twice as many objects of that size are no half of it.
const SHORT: usize = 5;
/// The parameter that says how many objects a page has at most.
const LIMIT: &str = "limit=";

/// What is longer than it may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLong {
    #[error("a response is longer than {} MiB", TEXT_MAX >> 20)]
    Response,
    #[error("an event is longer than {} MiB", TEXT_MAX >> 20)]
    Event,
}

/// How many objects of a kind the next page is to have. It stays from list to list.
#[derive(Debug, Clone)]
pub(super) struct Pages(Arc<AtomicU32>);

impl Default for Pages {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(u32::MAX)))
    }
}

impl Pages {
    /// Asks for no more than that. Continue tokens go with any number.
    pub(super) fn cut(&self, request: &mut Parts) -> http::Result<()> {
        let Some(asked) = asked(request) else { return Ok(()) };
        let limit = asked.min(self.0.load(Ordering::Relaxed));
        let query = request.uri.query().unwrap_or_default();
        let parameter = |p: &str| if p.starts_with(LIMIT) { format!("{LIMIT}{limit}") } else { p.into() };
        let query: Vec<String> = query.split('&').map(parameter).collect();
        request.uri =
            http::Uri::builder().path_and_query(format!("{}?{}", request.uri.path(), query.join("&"))).build()?;
        Ok(())
    }

    /// A page of so many objects was too long. False: fewer can't be asked for.
    pub(super) fn shrink(&self, request: &Parts) -> bool {
        let Some(limit) = asked(request).filter(|n| *n > 1) else { return false };
        self.0.store((limit / SHRINK).max(1), Ordering::Relaxed);
        true
    }

    /// A page has so many octets.
    pub(super) fn fits(&self, octets: usize) {
        if octets < TEXT_MAX / SHORT {
            let double = |n: u32| Some(n.saturating_mul(2));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, double);
        }
    }
}

/// How many objects a request is for at most.
fn asked(request: &Parts) -> Option<u32> {
    request.uri.query()?.split('&').find_map(|p| p.strip_prefix(LIMIT))?.parse().ok()
}

/// Reads a response that is to end; [`TooLong`] as soon as it is.
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

    /// The number that is asked for in place of 500.
    fn cut(pages: &Pages) -> Parts {
        let mut request = list(500);
        pages.cut(&mut request).unwrap();
        request
    }

    #[test]
    fn pages_shrink_to_one_object_and_grow_again() {
        let pages = Pages::default();
        for limit in [500, 125, 31, 7, 1] {
            assert_eq!(cut(&pages).uri, list(limit).uri);
            assert_eq!(pages.shrink(&cut(&pages)), limit > 1);
        }
        pages.fits(TEXT_MAX / 2);
        assert_eq!(asked(&cut(&pages)), Some(1), "two may be too long");
        for limit in [2, 4, 8, 16, 32, 64, 128, 256, 500, 500] {
            pages.fits(1000);
            assert_eq!(asked(&cut(&pages)), Some(limit));
        }
        assert!(pages.shrink(&cut(&pages)));
        assert_eq!(asked(&cut(&pages)), Some(125), "of what was asked for");
    }

    #[test]
    fn what_is_no_page_stays() {
        let pages = Pages::default();
        let mut request = http::Request::get("/api/v1/services?watch=true").body(()).unwrap().into_parts().0;
        assert!(pages.cut(&mut request).is_ok() && !pages.shrink(&request));
        assert_eq!(request.uri, "/api/v1/services?watch=true");
    }
}
