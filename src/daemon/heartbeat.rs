//! The heartbeat, for programs and for systemd.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::state::DaemonState;
use crate::datapath::BEAT;

/// A start that waits for the API server may go on for so long after each heartbeat.
const START_EXTENSION: Duration = Duration::from_secs(10);

/// Tells the programs that the daemon is there, and then systemd. Also closes gates, whatever else goes on.
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
                if !state.status.has_synced() {
                    // The API server may be away for longer than a start may take.
                    notify(&[NotifyState::ExtendTimeoutUsec(START_EXTENSION.as_micros() as u32)]);
                }
            }
            // Programs pass everything then, and the watchdog ends us.
            Err(e) => log::error!("heartbeat: {e}"),
        }
        state.set_gates();
        state.tell_of_shortage();
    }
}

pub(super) fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, which is no error.
    if let Err(e) = sd_notify::notify(states) {
        log::debug!("sd_notify: {e}");
    }
}
