//! Whether an API server that is back has the past that was seen of it. Where etcd was restored from a backup it has another
//! one: a watch that goes on from a version which is yet to come says nothing, and nobody tells what was undone.
//!
//! So before a watch goes on from the one before, the object that changed last is asked for: it must be as it was, or be
//! newer than all that was seen.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use kube::core::{ObjectList, PartialObjectMeta};

/// The metadata of some objects, of whatever kind.
pub(super) type List = ObjectList<PartialObjectMeta<Namespace>>;

const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// The past is another one, or may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Another {
    #[error("the API server has an older state: its version is {now}, and was {seen}")]
    Behind { now: u64, seen: u64 },
    #[error("the API server has an older state: {name} is there at version {now}, and was seen at {seen}")]
    Undone { name: String, now: u64, seen: u64 },
    /// Mostly it was deleted just now, and nothing is wrong. Or it was never made in a state that was restored: both look
    /// the same.
    #[error("{name}, which changed last, is gone")]
    Gone { name: String },
}

/// The object of a kind that changed last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    namespace: Option<String>,
    name: String,
    version: u64,
    /// Whether it went.
    is_gone: bool,
}

/// What was seen of a kind's past.
#[derive(Debug, Clone, Default)]
pub(super) struct Past(Arc<Mutex<Option<Last>>>);

impl Past {
    fn last(&self) -> Option<Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A list begins: nothing of what was seen before counts.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An object was seen, or seen to go. Whether that is newer than all that was seen before, for all that can be told.
    pub(super) fn see(&self, object: &ObjectMeta, is_gone: bool) -> bool {
        let Some(version) = number(object) else { return true };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.as_ref().is_none_or(|last| last.version < version);
        if is_new {
            let name = object.name.clone().unwrap_or_default();
            *last = Some(Last { namespace: object.namespace.clone(), name, version, is_gone });
        }
        is_new
    }

    /// Whether this version is older than one that was seen.
    pub(super) fn is_old(&self, version: &str) -> bool {
        version.parse().is_ok_and(|version: u64| self.last().is_some_and(|last| version < last.version))
    }

    /// What to ask before this watch.
    pub(super) fn question(&self, watch: &http::Uri) -> http::Result<http::Request<Body>> {
        let path = watch.path();
        let target = match (self.last(), path.rsplit_once('/')) {
            (Some(Last { namespace: Some(namespace), name, .. }), Some((group, kind))) => {
                format!("{group}/namespaces/{namespace}/{kind}?fieldSelector=metadata.name%3D{name}")
            }
            (Some(Last { name, .. }), _) => format!("{path}?fieldSelector=metadata.name%3D{name}"),
            (None, _) => format!("{path}?limit=1"),
        };
        http::Request::get(target).header(http::header::ACCEPT, METADATA).body(Body::empty())
    }

    /// What the reply says.
    pub(super) fn check(&self, watch: &http::Uri, reply: &List) -> Result<(), Another> {
        let from = watch.query().and_then(|q| q.split('&').find_map(|p| p.strip_prefix("resourceVersion=")));
        let now = reply.metadata.resource_version.as_deref();
        // Versions are numbers wherever that can be told; where not, nothing is.
        let (Some(seen), Some(now)) = (from.and_then(|v| v.parse().ok()), now.and_then(|v| v.parse().ok())) else {
            return Ok(());
        };
        if now < seen {
            return Err(Another::Behind { now, seen });
        }
        let Some(last) = self.last() else { return Ok(()) };
        let Last { name, version, is_gone, .. } = last;
        match reply.items.first().and_then(|object| number(&object.metadata)) {
            Some(now) if now > seen || now == version && !is_gone => Ok(()),
            Some(now) => Err(Another::Undone { name, now, seen: version }),
            None if is_gone => Ok(()),
            None => Err(Another::Gone { name }),
        }
    }
}

fn number(object: &ObjectMeta) -> Option<u64> {
    object.resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, version: u64) -> serde_json::Value {
        serde_json::json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version.to_string()}})
    }

    fn meta(name: &str, version: u64) -> ObjectMeta {
        serde_json::from_value(object(name, version)["metadata"].clone()).unwrap()
    }

    fn past() -> Past {
        let past = Past::default();
        past.see(&meta("a", 7), false);
        past.see(&meta("b", 9), false);
        past.see(&meta("c", 8), false);
        past
    }

    fn watch(version: &str) -> http::Uri {
        format!("/api/v1/services?&watch=true&timeoutSeconds=290&resourceVersion={version}").parse().unwrap()
    }

    fn check(past: &Past, from: &str, now: &str, items: &[serde_json::Value]) -> Result<(), Another> {
        let list = serde_json::json!({"metadata": {"resourceVersion": now}, "items": items});
        past.check(&watch(from), &serde_json::from_value(list).unwrap())
    }

    #[test]
    fn asks_for_what_changed_last() {
        let target = |past: &Past, path: &str| past.question(&path.parse().unwrap()).unwrap().uri().to_string();
        let past = past();
        let path = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices?fieldSelector=metadata.name%3Db";
        assert_eq!(target(&past, "/apis/discovery.k8s.io/v1/endpointslices?watch=true"), path);
        past.forget();
        assert_eq!(target(&past, "/api/v1/namespaces?watch=true"), "/api/v1/namespaces?limit=1");
        past.see(&ObjectMeta { namespace: None, ..meta("d", 1) }, true);
        assert_eq!(
            target(&past, "/api/v1/namespaces?watch=true"),
            "/api/v1/namespaces?fieldSelector=metadata.name%3Dd"
        );
    }

    #[test]
    fn what_was_seen_before_is_no_news() {
        let past = past();
        for (version, is_news) in [(9, false), (3, false), (10, true), (10, false), (9, false), (11, true)] {
            assert_eq!(past.see(&meta("d", version), true), is_news, "{version}");
        }
        for (version, is_old) in [("10", true), ("11", false), ("12", false), ("later", false)] {
            assert_eq!(past.is_old(version), is_old, "{version}");
        }
        past.forget();
        assert!(!past.is_old("1") && past.see(&meta("d", 1), false));
        let versionless = ObjectMeta { resource_version: Some("later".into()), ..meta("d", 1) };
        assert!(past.see(&versionless, false) && past.see(&versionless, false), "nothing can be told");
    }

    #[test]
    fn a_past_that_goes_on_is_the_same() {
        let past = past();
        assert_eq!(check(&past, "12", "12", &[object("b", 9)]), Ok(()));
        assert_eq!(check(&past, "12", "20", &[object("b", 9)]), Ok(()));
        assert_eq!(check(&past, "12", "20", &[object("b", 13)]), Ok(()), "changed since");
        past.see(&meta("b", 11), true);
        assert_eq!(check(&past, "12", "20", &[]), Ok(()));
        assert_eq!(check(&past, "12", "20", &[object("b", 15)]), Ok(()), "made anew since");
        assert_eq!(check(&past, "later", "soon", &[object("b", 1)]), Ok(()), "nothing can be told");
        assert_eq!(check(&Past::default(), "12", "13", &[object("a", 1)]), Ok(()));
    }

    #[test]
    fn another_past_is_noticed() {
        let past = past();
        let undone = |now, seen| Err(Another::Undone { name: "b".into(), now, seen });
        assert_eq!(check(&past, "12", "11", &[object("b", 9)]), Err(Another::Behind { now: 11, seen: 12 }));
        assert_eq!(check(&Past::default(), "12", "11", &[]), Err(Another::Behind { now: 11, seen: 12 }));
        assert_eq!(check(&past, "12", "20", &[object("b", 6)]), undone(6, 9), "a change");
        assert_eq!(
            check(&past, "12", "20", &[object("b", 11)]),
            undone(11, 9),
            "changed otherwise when it was seen unchanged"
        );
        past.see(&meta("b", 11), true);
        assert_eq!(check(&past, "12", "20", &[object("b", 9)]), undone(9, 11), "its end");
    }

    #[test]
    fn one_that_is_gone_is_no_older_state() {
        let gone = check(&past(), "12", "20", &[]).unwrap_err();
        assert_eq!(gone, Another::Gone { name: "b".into() });
        assert!(!gone.to_string().contains("older state"), "{gone}");
    }
}
