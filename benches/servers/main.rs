//! eDNS and DNS servers get the same questions in the same run: queries per second, latency at fixed rates, and CPU time per
//! query. README.md has the method.
//!
//! `cargo bench --bench servers -- [--quick] [--out DIR]`; root, and EDNS_K8S_TOOLS. A table in Markdown
//! on stdout; plots and the headline go to DIR.

#[path = "../../tests/common/lab/mod.rs"]
mod lab;

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../../tests/k8s/cluster.rs"]
mod cluster;

#[allow(dead_code, reason = "other benchmarks and tests use the rest")]
#[path = "../../tests/k8s/api.rs"]
mod api;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../../tests/k8s/client.rs"]
mod client;

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../../tests/common/rng.rs"]
mod rng;

mod agreement;
mod chart;
mod contenders;
mod mix;
mod report;
mod services;
mod traffic;

use std::path::PathBuf;
use std::time::Duration;

use cluster::Cluster;
use lab::Lab;
use report::Figures;
use services::Services;
use traffic::{busy, latency, run};

/// Fixed rates in queries per second: a busy node's, and four times that. The CPU time per query is measured at the second.
pub const RATES: [u32; 2] = [5_000, 20_000];

/// How much is measured.
struct Effort {
    rounds: usize,
    /// Seconds of one figure in one round.
    seconds: u64,
    services: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut quick, mut out) = (false, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--out" => out = arguments.next().map(PathBuf::from),
            // Arguments of cargo itself.
            _ => {}
        }
    }
    let effort = if quick {
        Effort { rounds: 1, seconds: 1, services: 1000 }
    } else {
        Effort { rounds: 5, seconds: 3, services: 10_000 }
    };

    let services = Services { count: effort.services };
    let mut cluster = Cluster::without_dns();
    contenders::prepare(&mut cluster.lab);
    services.create(&cluster);
    let last = format!("svc-{0}.ns{1}.svc.cluster.local", services.count - 1, services.namespace(services.count - 1));
    let _coredns = contenders::start_coredns(&cluster);
    contenders::ALL[1..3].iter().for_each(|c| contenders::wait_for(&cluster.lab, c, &last));
    let _static = contenders::start_static(&cluster.lab, &services, &Services::zone(&cluster));
    contenders::ALL[3..].iter().for_each(|c| contenders::wait_for(&cluster.lab, c, &last));
    let daemon = cluster.lab.daemon();

    let questions = mix::questions(&services);
    cluster.lab.write("questions", &(questions.join("\n") + "\n"));
    let outcomes = agreement::check(&cluster.lab, &questions, if quick { 1000 } else { 5000 });
    let figures = measure(&effort, &cluster.lab);
    drop(daemon);
    report::print(&services, &outcomes, &questions, &figures);
    if let Some(dir) = out {
        report::write(&dir, &figures);
    }
}

/// Runs the rounds, in which all contenders take turns. Returns the medians of the rounds.
fn measure(effort: &Effort, lab: &Lab) -> Vec<Figures> {
    let mut rounds = vec![Vec::new(); contenders::ALL.len()];
    for _ in 0..effort.rounds {
        for (contender, figures) in contenders::ALL.iter().zip(&mut rounds) {
            let most = run(lab, contender, effort.seconds, None);
            let steady = RATES.map(|rate| latency(lab, contender, effort.seconds, rate));
            // The load of the machine without queries, such as timers of the servers and the API server.
            let (idle, ()) = busy(|| std::thread::sleep(Duration::from_secs(effort.seconds.div_ceil(2))));
            let (busy, ran) = busy(|| run(lab, contender, effort.seconds, Some(RATES[1])));
            figures.push(Figures::of_round(&most, &steady, idle, busy, &ran));
        }
    }
    rounds.iter().map(|rounds| Figures::median(rounds)).collect()
}
