//! The daemon as a process, under the names that Prometheus' own libraries use. What /proc does not tell is left out.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use prometheus::{Counter, Result};

use super::Page;

pub(super) fn add(page: &Page, start_time_seconds: u64) -> Result<()> {
    page.gauge("process_start_time_seconds", "Start, since the Unix epoch.", start_time_seconds as f64)?;
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = [usage.user_time(), usage.system_time()].map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6);
        let cpu = Counter::new("process_cpu_seconds_total", "User and system CPU time.")?;
        cpu.inc_by(seconds.iter().sum());
        page.add(cpu)?;
    }
    if let Some(resident) = resident() {
        page.gauge("process_resident_memory_bytes", "Resident memory, without that of the maps.", resident as f64)?;
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open file descriptors.", fds.count() as f64)?;
    }
    if let Ok((max, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        page.gauge("process_max_fds", "File descriptors that may be open.", max as f64)?;
    }
    Ok(())
}

/// Octets of resident memory: the second number of proc(5)'s statm.
fn resident() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    let size = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some(pages * size)
}
