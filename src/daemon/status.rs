//! The daemon's state for `edns stats`, /metrics, /healthz and /readyz.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus::Histogram;
use tokio::time::Instant;

use super::staleness::Staleness;
use crate::control::{KindReply, SyncReply};
use crate::datapath::BEAT_MAX;
use crate::metrics;
use crate::source::kubernetes::{Health, Kind};

/// The daemon's state, without the maps.
pub(super) struct Status {
    /// Start of the daemon, for durations.
    pub started: Instant,
    /// Start of the daemon, as a date.
    pub start_time: SystemTime,
    /// Time of the last heartbeat that reached the program.
    pub beat: Instant,
    /// State of the watches; None without `EnableK8S`.
    health: Option<Arc<Health>>,
    /// Whether the gates were opened after the cluster's names had been written: the initial sync is done.
    pub gates_opened: bool,
    /// How long the view of the cluster has been stale.
    pub staleness: Staleness,
    /// Whether every entry of `Ifname` is the name of an interface, which must exist.
    pub all_required: bool,
    /// Why the program is not attached to interfaces, one text each.
    pub unattached: Vec<String>,
    pub attach_errors: u64,
    pub reloads: u64,
    pub reload_errors: u64,
    /// Why the last reload failed; None if it succeeded.
    pub reload_error: Option<String>,
    /// Why changes of files are not applied yet, one text for each file.
    pub held: Vec<String>,
    /// Seconds from the arrival of an event until it is written to the maps.
    pub programming: Histogram,
}

impl Status {
    pub(super) fn new(started: Instant, health: Option<Arc<Health>>) -> Self {
        Self {
            started,
            start_time: SystemTime::now(),
            beat: started,
            health,
            gates_opened: false,
            staleness: Staleness::new(),
            all_required: false,
            unattached: Vec::new(),
            attach_errors: 0,
            reloads: 0,
            reload_errors: 0,
            reload_error: None,
            held: Vec::new(),
            programming: metrics::programming_duration(),
        }
    }

    /// Whether the initial sync is done, or none is needed.
    pub(super) const fn is_sync_done(&self) -> bool {
        self.gates_opened || self.health.is_none()
    }

    /// Whether the view of the cluster is current, so that negative answers are correct.
    pub(super) fn is_current(&self) -> bool {
        self.health.as_ref().is_some_and(|h| h.is_current())
    }

    /// Whether the last heartbeat is recent enough for the programs to answer.
    pub(super) fn is_alive(&self) -> bool {
        self.beat.elapsed() < BEAT_MAX
    }

    /// Why the daemon is not ready; None if it is. `attached`: whether the program is attached to any interface.
    pub(super) fn not_ready(&self, attached: bool) -> Option<String> {
        if !self.is_sync_done() {
            Some("initial sync of the cluster zone not done yet".into())
        } else if let Some(error) = self.unattached.first() {
            Some(error.clone())
        } else if self.all_required && !attached {
            Some("no interface matches Ifname".into())
        } else {
            None
        }
    }

    /// State of the sync with the API server; None without `EnableK8S`.
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
            synced: self.gates_opened,
            current: self.is_current(),
            stale_seconds: self.staleness.time().map(|t| t.as_secs_f64()),
            max_stale_seconds: self.staleness.max().map(|t| t.as_secs_f64()),
            expired: self.staleness.is_expired(),
            kinds: Kind::ALL.map(kind).into(),
        })
    }
}
