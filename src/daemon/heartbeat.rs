//! The heartbeat, for the BPF programs and for systemd's watchdog.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::state::DaemonState;
use crate::datapath::BEAT;

/// Each heartbeat extends systemd's start timeout by this while the daemon waits for the API server.
const START_EXTENSION: Duration = Duration::from_secs(10);

/// Sends the heartbeat to the programs and then to systemd; never returns. Also closes gates: the main loop can't while it waits
/// for work in another thread.
pub(super) async fn beat(state: Rc<RefCell<DaemonState>>) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let state = &mut *state.borrow_mut();
        match state.datapath.beat() {
            Ok(()) => {
                state.status.beat = Instant::now();
                notify(&[NotifyState::Watchdog]);
                if !state.status.is_sync_done() {
                    // The API server may be down for longer than TimeoutStartSec.
                    notify(&[NotifyState::ExtendTimeoutUsec(START_EXTENSION.as_micros() as u32)]);
                }
            }
            // Without heartbeats the programs pass all queries, and systemd's watchdog restarts the daemon.
            Err(e) => log::error!("heartbeat: {e}"),
        }
        state.set_gates();
        state.log_shortage();
    }
}

/// Sends these states to systemd.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    // Not a warning: without systemd this is not needed.
    if let Err(e) = sd_notify::notify(states) {
        log::debug!("sd_notify: {e}");
    }
}
