//! Memory, file descriptors and names of the daemon.

use std::fmt;
use std::fs;

use crate::lab::Lab;

/// The resident memory varies; this much is not a leak.
const SLACK_KIB: u64 = 4096;
/// Connections that are being closed.
const SLACK_DESCRIPTORS: usize = 4;

pub struct Resources {
    rss_kib: u64,
    descriptors: usize,
    names: u64,
    map_bytes: u64,
    interfaces: usize,
}

impl Resources {
    pub fn take(lab: &Lab) -> Self {
        let stats = lab.edns(&["stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).expect("JSON");
        let pid = &stats["pid"];
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon");
        let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
        Self {
            rss_kib: rss.trim().trim_end_matches(" kB").parse().expect("a number"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon").count(),
            names: stats["records"].as_u64().expect("records"),
            map_bytes: stats["map_bytes"].as_u64().expect("map_bytes"),
            interfaces: stats["attached_interfaces"].as_array().expect("interfaces").len(),
        }
    }

    /// # Panics
    /// If there are more than in `before`.
    pub fn compare(&self, before: &Self) {
        let same = self.names == before.names && self.interfaces == before.interfaces;
        let flat = self.rss_kib <= before.rss_kib + SLACK_KIB
            && self.map_bytes <= before.map_bytes
            && self.descriptors <= before.descriptors + SLACK_DESCRIPTORS;
        assert!(same && flat, "it grew from {before} to {self}");
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rss_kib, descriptors, names, map_bytes, interfaces } = self;
        let maps = map_bytes >> 10;
        write!(
            f,
            "{rss_kib} KiB resident, {descriptors} descriptors, {names} names in {maps} KiB of maps, {interfaces} interfaces"
        )
    }
}
