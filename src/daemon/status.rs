//! What the daemon knows of itself, for `edns stats`, /metrics, /healthz and /readyz.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus::Histogram;
use tokio::time::Instant;

use super::staleness::Staleness;
use crate::control::{KindReply, SyncReply};
use crate::datapath::BEAT_MAX;
use crate::metrics;
use crate::source::kubernetes::{Health, Kind};

/// How it stands.
pub(super) struct Status {
    pub started: Instant,
    pub start_time: SystemTime,
    /// The last heartbeat.
    pub beat: Instant,
    /// Of the cluster, where there is one.
    health: Option<Arc<Health>>,
    /// Whether the cluster's names are in the maps.
    pub synced: bool,
    /// Of the view of the cluster.
    pub staleness: Staleness,
    /// Whether `Ifname` has but interfaces that must be there.
    pub named: bool,
    /// Why interfaces have no program.
    pub unattached: Vec<String>,
    pub attach_errors: u64,
    pub reloads: u64,
    pub reload_errors: u64,
    /// Why the last reload changed nothing.
    pub reload_error: Option<String>,
    /// Why changes of files are not in effect.
    pub held: Vec<String>,
    /// Seconds from an event's arrival to the maps.
    pub programming: Histogram,
}

impl Status {
    pub(super) fn new(started: Instant, health: Option<Arc<Health>>) -> Self {
        Self {
            started,
            start_time: SystemTime::now(),
            beat: started,
            health,
            synced: false,
            staleness: Staleness::new(),
            named: false,
            unattached: Vec::new(),
            attach_errors: 0,
            reloads: 0,
            reload_errors: 0,
            reload_error: None,
            held: Vec::new(),
            programming: metrics::programming_duration(),
        }
    }

    /// Whether all sources were read whole once.
    pub(super) const fn has_synced(&self) -> bool {
        self.synced || self.health.is_none()
    }

    /// Whether what is absent from the view of the cluster does not exist.
    pub(super) fn is_current(&self) -> bool {
        self.health.as_ref().is_some_and(|h| h.is_current())
    }

    /// Whether programs are told that the daemon is there.
    pub(super) fn is_alive(&self) -> bool {
        self.beat.elapsed() < BEAT_MAX
    }

    /// Why the daemon is not ready, where it is not.
    pub(super) fn not_ready(&self, attached: bool) -> Option<String> {
        if !self.has_synced() {
            Some("initial sync of the cluster zone not done yet".into())
        } else if let Some(error) = self.unattached.first() {
            Some(error.clone())
        } else if self.named && !attached {
            Some("no interface matches Ifname".into())
        } else {
            None
        }
    }

    pub(super) fn sync(&self) -> Option<SyncReply> {
        let health = self.health.as_ref()?;
        let kind = |kind: Kind| {
            let state = health.state(kind);
            KindReply {
                kind: kind.plural().into(),
                silent_seconds: state.silent.as_secs_f64(),
                broken_seconds: state.broken.map(|b| b.as_secs_f64()),
                errors: state.errors,
                lists: state.lists,
            }
        };
        Some(SyncReply {
            synced: self.synced,
            current: self.is_current(),
            stale_seconds: self.staleness.time().map(|t| t.as_secs_f64()),
            max_stale_seconds: self.staleness.max().map(|t| t.as_secs_f64()),
            expired: self.staleness.is_expired(),
            kinds: Kind::ALL.map(kind).into(),
        })
    }
}
