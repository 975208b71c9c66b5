//! Detects an API server whose history differs from the one that was watched, as after a restore of etcd from a backup. A watch
//! that resumes from a version in the future delivers nothing, and no event reports the changes that were undone.
//!
//! Therefore, before a watch resumes from the last version, the object that changed last is read: it must be unchanged, or
//! newer than everything seen so far.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use kube::core::{ObjectList, PartialObjectMeta};

/// The metadata of some objects of any kind.
pub(super) type MetadataList = ObjectList<PartialObjectMeta<Namespace>>;

const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// The history differs, or may differ.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HistoryMismatch {
    #[error("the API server has an older state: its version is {now} and was {seen}")]
    Behind { now: u64, seen: u64 },
    #[error("the API server has an older state: {name} has version {now} and had {seen}")]
    Undone { name: String, now: u64, seen: u64 },
    /// Usually the object was just deleted, and nothing is wrong. This is indistinguishable from a restore to a state that
    /// never had the object.
    #[error("{name}, the object that changed last, no longer exists")]
    Deleted { name: String },
}

/// The object of a kind that changed last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LastChange {
    namespace: Option<String>,
    name: String,
    version: u64,
    /// Whether the change was its deletion.
    is_deleted: bool,
}

/// The history of a kind as far as it was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct History(Arc<Mutex<Option<LastChange>>>);

impl History {
    fn last(&self) -> Option<LastChange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets everything, as a list begins.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Records an object, or its deletion. Returns whether that is newer than everything recorded before; true where versions
    /// can't be compared.
    pub(super) fn record(&self, object: &ObjectMeta, is_deleted: bool) -> bool {
        let Some(version) = number(object) else { return true };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.as_ref().is_none_or(|last| last.version < version);
        if is_new {
            let name = object.name.clone().unwrap_or_default();
            *last = Some(LastChange { namespace: object.namespace.clone(), name, version, is_deleted });
        }
        is_new
    }

    /// Whether a version is older than one that was recorded.
    pub(super) fn is_older(&self, version: &str) -> bool {
        version.parse().is_ok_and(|version: u64| self.last().is_some_and(|last| version < last.version))
    }

    /// The request to make before this watch.
    pub(super) fn probe(&self, watch: &http::Uri) -> http::Result<http::Request<Body>> {
        let path = watch.path();
        let target = match (self.last(), path.rsplit_once('/')) {
            (Some(LastChange { namespace: Some(namespace), name, .. }), Some((group, kind))) => {
                format!("{group}/namespaces/{namespace}/{kind}?fieldSelector=metadata.name%3D{name}")
            }
            (Some(LastChange { name, .. }), _) => format!("{path}?fieldSelector=metadata.name%3D{name}"),
            (None, _) => format!("{path}?limit=1"),
        };
        http::Request::get(target).header(http::header::ACCEPT, METADATA).body(Body::empty())
    }

    /// Compares the response to [`Self::probe`] with what was recorded.
    pub(super) fn check(&self, watch: &http::Uri, reply: &MetadataList) -> Result<(), HistoryMismatch> {
        let from = watch.query().and_then(|q| q.split('&').find_map(|p| p.strip_prefix("resourceVersion=")));
        let now = reply.metadata.resource_version.as_deref();
        // Versions are compared only if they are numbers. The API leaves that open.
        let (Some(seen), Some(now)) = (from.and_then(|v| v.parse().ok()), now.and_then(|v| v.parse().ok())) else {
            return Ok(());
        };
        if now < seen {
            return Err(HistoryMismatch::Behind { now, seen });
        }
        let Some(last) = self.last() else { return Ok(()) };
        let LastChange { name, version, is_deleted, .. } = last;
        match reply.items.first().and_then(|object| number(&object.metadata)) {
            Some(now) if now > seen || now == version && !is_deleted => Ok(()),
            Some(now) => Err(HistoryMismatch::Undone { name, now, seen: version }),
            None if is_deleted => Ok(()),
            None => Err(HistoryMismatch::Deleted { name }),
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

    fn history() -> History {
        let history = History::default();
        history.record(&meta("a", 7), false);
        history.record(&meta("b", 9), false);
        history.record(&meta("c", 8), false);
        history
    }

    fn watch(version: &str) -> http::Uri {
        format!("/api/v1/services?&watch=true&timeoutSeconds=290&resourceVersion={version}").parse().unwrap()
    }

    fn check(history: &History, from: &str, now: &str, items: &[serde_json::Value]) -> Result<(), HistoryMismatch> {
        let list = serde_json::json!({"metadata": {"resourceVersion": now}, "items": items});
        history.check(&watch(from), &serde_json::from_value(list).unwrap())
    }

    #[test]
    fn the_probe_reads_the_object_that_changed_last() {
        let target = |history: &History, path: &str| history.probe(&path.parse().unwrap()).unwrap().uri().to_string();
        let history = history();
        let path = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices?fieldSelector=metadata.name%3Db";
        assert_eq!(target(&history, "/apis/discovery.k8s.io/v1/endpointslices?watch=true"), path);
        history.clear();
        assert_eq!(target(&history, "/api/v1/namespaces?watch=true"), "/api/v1/namespaces?limit=1");
        history.record(&ObjectMeta { namespace: None, ..meta("d", 1) }, true);
        assert_eq!(
            target(&history, "/api/v1/namespaces?watch=true"),
            "/api/v1/namespaces?fieldSelector=metadata.name%3Dd"
        );
    }

    #[test]
    fn an_older_or_equal_version_is_not_new() {
        let history = history();
        for (version, is_new) in [(9, false), (3, false), (10, true), (10, false), (9, false), (11, true)] {
            assert_eq!(history.record(&meta("d", version), true), is_new, "{version}");
        }
        for (version, is_older) in [("10", true), ("11", false), ("12", false), ("later", false)] {
            assert_eq!(history.is_older(version), is_older, "{version}");
        }
        history.clear();
        assert!(!history.is_older("1") && history.record(&meta("d", 1), false));
        let versionless = ObjectMeta { resource_version: Some("later".into()), ..meta("d", 1) };
        assert!(history.record(&versionless, false) && history.record(&versionless, false), "versions are not numbers");
    }

    #[test]
    fn a_continued_history_matches() {
        let history = history();
        assert_eq!(check(&history, "12", "12", &[object("b", 9)]), Ok(()));
        assert_eq!(check(&history, "12", "20", &[object("b", 9)]), Ok(()));
        assert_eq!(check(&history, "12", "20", &[object("b", 13)]), Ok(()), "changed since");
        history.record(&meta("b", 11), true);
        assert_eq!(check(&history, "12", "20", &[]), Ok(()));
        assert_eq!(check(&history, "12", "20", &[object("b", 15)]), Ok(()), "created again since");
        assert_eq!(check(&history, "later", "soon", &[object("b", 1)]), Ok(()), "versions are not numbers");
        assert_eq!(check(&History::default(), "12", "13", &[object("a", 1)]), Ok(()));
    }

    #[test]
    fn a_different_history_is_detected() {
        let history = history();
        let undone = |now, seen| Err(HistoryMismatch::Undone { name: "b".into(), now, seen });
        assert_eq!(check(&history, "12", "11", &[object("b", 9)]), Err(HistoryMismatch::Behind { now: 11, seen: 12 }));
        assert_eq!(check(&History::default(), "12", "11", &[]), Err(HistoryMismatch::Behind { now: 11, seen: 12 }));
        assert_eq!(check(&history, "12", "20", &[object("b", 6)]), undone(6, 9), "the change was undone");
        assert_eq!(
            check(&history, "12", "20", &[object("b", 11)]),
            undone(11, 9),
            "changed otherwise when it was seen unchanged"
        );
        history.record(&meta("b", 11), true);
        assert_eq!(check(&history, "12", "20", &[object("b", 9)]), undone(9, 11), "the deletion was undone");
    }

    #[test]
    fn a_deleted_object_is_not_reported_as_an_older_state() {
        let gone = check(&history(), "12", "20", &[]).unwrap_err();
        assert_eq!(gone, HistoryMismatch::Deleted { name: "b".into() });
        assert!(!gone.to_string().contains("older state"), "{gone}");
    }
}
