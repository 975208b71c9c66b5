//! The cost of a large cluster. For the daemon: from the last page of the last list to the last write, from a watch event to
//! the maps, and memory. For the API server: octets of lists and events.
//!
//! `cargo bench --bench scale`; root, and EDNS_K8S_TOOLS. Markdown on stdout.

#[path = "../../tests/common/lab/mod.rs"]
mod lab;

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../../tests/k8s/cluster.rs"]
mod cluster;

#[path = "../../tests/k8s/api.rs"]
mod api;

mod churn;
mod fake_apiserver;
mod objects;
mod real_apiserver;

use std::sync::Arc;
use std::time::Duration;

use fake_apiserver::Pages;
use lab::{Lab, within};
use objects::Services;

/// Rounds of each figure; the median counts.
const ROUNDS: usize = 3;

/// The figures of one round.
struct Figures {
    names: usize,
    /// From the last list to the last write.
    took: Duration,
    /// KiB of the process: resident, and the peak.
    resident: usize,
    peak: usize,
    /// KiB of maps.
    maps: usize,
}

impl Figures {
    /// Starts a daemon in this lab and takes its figures.
    fn take(lab: &Lab) -> Self {
        let daemon = lab.spawn("host", "config.yaml");
        let all = within(300, "the initial sync", || {
            let log = daemon.log();
            log.lines().find(|l| l.contains("initial sync done: ")).map(str::to_owned).ok_or(log)
        });
        let (names, took) =
            all.split_once("initial sync done: ").and_then(|(_, l)| l.split_once(" names, ")).expect("names");
        let took = took.split_once(' ').expect("a duration").0;
        let stats: serde_json::Value = serde_json::from_slice(&lab.edns(&["stats", "--json"]).stdout).expect("JSON");
        let status = std::fs::read_to_string(format!("/proc/{}/status", stats["pid"])).expect("it runs");
        let kib = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).expect("a line");
            line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<usize>().expect("KiB")
        };
        Self {
            names: names.parse().expect("a number"),
            took: seconds(took),
            resident: kib("VmRSS"),
            peak: kib("VmHWM"),
            maps: stats["map_bytes"].as_u64().expect("octets") as usize / 1024,
        }
    }

    /// Prints a row of the table: medians.
    fn row(lab: &Lab, what: &str, services: usize) {
        let mut rounds: Vec<Self> = (0..ROUNDS).map(|_| Self::take(lab)).collect();
        let mut median = |key: fn(&Self) -> u128| {
            rounds.sort_unstable_by_key(key);
            key(&rounds[ROUNDS / 2])
        };
        println!(
            "| {services} | {what} | {} | {} | {} | {} | {} |",
            median(|f| f.names as u128),
            median(|f| f.took.as_millis()),
            median(|f| f.resident as u128) / 1024,
            median(|f| f.peak as u128) / 1024,
            median(|f| f.maps as u128) / 1024,
        );
    }
}

/// Parses a duration in the format of Rust's Debug.
fn seconds(text: &str) -> Duration {
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[number.len()..] {
        "s" => 1.0,
        "ms" => 1e-3,
        _ => 1e-6,
    };
    Duration::from_secs_f64(number.parse::<f64>().expect("a number") * unit)
}

/// A lab with a fake API server.
fn fake_lab(services: Services) -> Lab {
    let lab = Lab::new();
    fake_apiserver::start(&lab, 8080, &Arc::new(Pages::new(services)));
    lab.write("domain.yaml", "Domains: []\n");
    lab.open_kubeconfig("kubeconfig", 8080);
    lab.write(
        "config.yaml",
        "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: veth0\nNetworkDirection: Ingress\nMaxRecords: 1048576\n",
    );
    lab
}

fn main() {
    println!("| Services | API server | names | last list to last write, ms | resident, MiB | peak, MiB | maps, MiB |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let cluster = real_apiserver::cluster(&Services { count: 10_000 });
    Figures::row(&cluster.lab, "real", 10_000);
    for count in [10_000, 100_000] {
        Figures::row(&fake_lab(Services { count }), "fake", count);
    }
    churn::print_latency();
    real_apiserver::print_sizes(&cluster);
}
