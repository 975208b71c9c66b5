//! Waiting, with more patience than the daemon's tests have: a control plane shares the machine.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Tries until it is so, and returns how long that took; panics after so many seconds.
pub fn within<T>(seconds: u64, what: &str, mut check: impl FnMut() -> Result<T, String>) -> Duration {
    let start = Instant::now();
    loop {
        match check() {
            Ok(_) => return start.elapsed(),
            Err(e) if start.elapsed() > Duration::from_secs(seconds) => panic!("not within {seconds} s: {what}; {e}"),
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}
