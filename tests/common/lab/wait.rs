//! Waiting for a condition.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Seconds within which everything that works is done, also on a loaded or emulated machine.
pub const PATIENCE: u64 = 60;

/// Tries until the check succeeds, for [`PATIENCE`] seconds at most.
pub fn until<T>(what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, check)
}

/// Tries until the check succeeds, for this many seconds at most.
pub fn within<T>(seconds: u64, what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match check() {
            Ok(value) => return value,
            Err(e) if Instant::now() > deadline => panic!("not within {seconds} seconds: {what}; {e}"),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}
