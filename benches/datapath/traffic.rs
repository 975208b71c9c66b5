//! Traffic from the pod: dnsperf with random names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::pair::{Pair, SERVER};
use crate::programs::name;

/// As many queries as there are names, at least 100,000, in random order.
pub fn query_file(dir: &Path, names: usize) -> PathBuf {
    let mut text = String::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..names.max(100_000) {
        // xorshift64: repeatable, and without an order that caches could use.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        writeln!(text, "{} A", name(state as usize % names)).expect("memory");
    }
    let file = dir.join(format!("{names}.txt"));
    std::fs::write(&file, text).expect("the queries");
    file
}

/// Sends as many queries as the client can. Returns answers a second.
pub fn dnsperf(pair: &Pair, queries: &Path, time: Duration) -> f64 {
    report(pair, queries, time, &[], "Queries per second:")
}

/// Sends queries at this rate. Returns the mean latency in microseconds.
pub fn latency(pair: &Pair, queries: &Path, time: Duration, rate: u32) -> f64 {
    report(pair, queries, time, &["-Q", &rate.to_string()], "Average Latency (s):") * 1e6
}

/// A figure of dnsperf's report.
fn report(pair: &Pair, queries: &Path, time: Duration, args: &[&str], key: &str) -> f64 {
    let output = pair
        .pod_command("dnsperf")
        .args(["-s", SERVER, "-c8", "-q200", "-l", &time.as_secs().max(1).to_string()])
        .args(args)
        .arg("-d")
        .arg(queries)
        .stderr(Stdio::null())
        .output()
        .expect("dnsperf");
    let text = String::from_utf8_lossy(&output.stdout);
    let field = text.lines().find_map(|l| l.trim().strip_prefix(key)).map(str::trim);
    let figure = field.and_then(|f| f.split(' ').next()?.parse().ok());
    figure.filter(|n| *n > 0.0).unwrap_or_else(|| panic!("dnsperf got no answers: {text}"))
}
