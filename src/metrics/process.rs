//! Metrics of the daemon's process, with the names of Prometheus' client libraries. A value that /proc does not give is left out.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use prometheus::{Counter, Result};

use super::Page;

pub(super) fn add(page: &Page, start_time_seconds: u64) -> Result<()> {
    page.gauge(
        "process_start_time_seconds",
        "Start of the process, in seconds since the Unix epoch.",
        start_time_seconds as f64,
    )?;
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = [usage.user_time(), usage.system_time()].map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6);
        let cpu = Counter::new("process_cpu_seconds_total", "User and system CPU time in seconds.")?;
        cpu.inc_by(seconds.iter().sum());
        page.add(cpu)?;
    }
    if let Some(resident) = resident() {
        page.gauge("process_resident_memory_bytes", "Resident memory of the process in bytes.", resident as f64)?;
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open file descriptors.", fds.count() as f64)?;
    }
    if let Ok((max, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        page.gauge("process_max_fds", "Limit of open file descriptors.", max as f64)?;
    }
    Ok(())
}

/// Resident memory in bytes: the second field of /proc/self/statm, in pages.
fn resident() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    let size = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some(pages * size)
}
