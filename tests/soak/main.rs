//! Services, slices, pods and the API server come, change and go under load for a given time. Every answer was correct at
//! some moment between query and reply. `make soak MINUTES=n`.
//!
//! Addresses encode the version of their object ([`objects`]), and a log has the times when each version was written and
//! acknowledged ([`truth`]). The test runs in rounds with a restart of the API server in each. After a round the changes
//! pause: the answers have to be those of the last writes, and memory, file descriptors and names no more than after the
//! first round.

#[path = "../common/lab/mod.rs"]
mod lab;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/cluster.rs"]
mod cluster;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/client.rs"]
mod client;

#[allow(dead_code, reason = "the tests of the data plane use the rest")]
#[path = "../common/rng.rs"]
mod rng;

mod asker;
mod load;
mod objects;
mod pods;
mod resources;
mod truth;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use asker::Asker;
use cluster::{Cluster, DNS};
use lab::RefusingServer;
use resources::Resources;
use truth::Truth;
use writer::Writer;

/// Duration of the changes in a round.
const CHURN: Duration = Duration::from_secs(18);
/// Threads that check answers.
const ASKERS: u64 = 2;

#[test]
fn every_answer_was_correct_and_no_resource_grows() {
    let seconds: u64 = std::env::var("EDNS_SOAK_SECONDS").map_or(60, |s| s.parse().expect("EDNS_SOAK_SECONDS"));
    let end = Instant::now() + Duration::from_secs(seconds);

    let mut cluster = Cluster::without_dns();
    cluster.lab.write("domain.yaml", "Domains: []\n");
    cluster
        .lab
        .write("config.yaml", "EnableK8S: true\nKubeConfig: kubeconfig\nIfname: '@pods'\nNetworkDirection: Ingress\n");
    pods::prepare(&mut cluster.lab);
    let server = RefusingServer::new(&cluster.lab, "host", &[DNS]);
    let truth = Truth::new(objects::all());
    let writer = Writer::new(&cluster.lab);
    writer.rest(&truth);
    let _daemon = cluster.lab.daemon();
    at_rest(&cluster, &truth);

    let mut samples: Vec<Resources> = Vec::new();
    while samples.len() < 3 || Instant::now() + CHURN < end {
        round(samples.len() as u64, &cluster, &truth, &writer);
        at_rest(&cluster, &truth);
        let sample = Resources::take(&cluster.lab);
        println!("{:>7.1} s: {sample}; {}", truth.seconds(Instant::now()), truth.summary());
        truth.verdict();
        samples.push(sample);
    }
    drop(server);
    // The first round is the warm-up; later rounds may need no more memory.
    samples[samples.len() - 1].compare(&samples[0]);
}

/// Runs one round of changes.
fn round(number: u64, cluster: &Cluster, truth: &Truth, writer: &Writer) {
    let lab = &cluster.lab;
    let over = AtomicBool::new(false);
    let load = load::start(lab, CHURN);
    let askers: Vec<Asker> = (0..ASKERS).map(|i| Asker::new(lab, "pod", number * ASKERS + i)).collect();
    thread::scope(|scope| {
        let over = &over;
        let running: Vec<_> = askers
            .into_iter()
            .map(|mut asker| scope.spawn(move || asker.ask_until(truth, over)))
            .chain([scope.spawn(move || writer.churn(truth, number, over))])
            .chain([scope.spawn(move || pods::churn(lab, truth, number, over))])
            .collect();
        thread::sleep(CHURN / 3);
        truth.api_goes();
        cluster.kill_api();
        cluster.start_api();
        truth.api_is_back();
        thread::sleep(CHURN - CHURN / 3);
        over.store(true, Ordering::Relaxed);
        for thread in running {
            thread.join().expect("no panic");
        }
    });
    load.check();
    writer.rest(truth);
}

/// Waits until every question has the answer of the last write.
fn at_rest(cluster: &Cluster, truth: &Truth) {
    let mut asker = Asker::new(&cluster.lab, "pod", u64::MAX);
    let deadline = Instant::now() + truth::AFTER_OUTAGE;
    while let Err(difference) = asker.ask_all(truth) {
        assert!(Instant::now() < deadline, "after the last change {difference}");
        thread::sleep(Duration::from_millis(50));
    }
}
