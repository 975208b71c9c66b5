//! Random questions over random objects, to eDNS and to a real CoreDNS. Meanwhile the API server is killed, answers 410 and
//! 500 or breaks off within events, and daemons take over. `make differential` asks a million questions.
//!
//! The test runs in steps. Each step asks both servers, writes objects and asks eDNS meanwhile, waits until both servers show
//! the last write ([`Markers`]), and asks both again. At rest every reply of eDNS has to be CoreDNS' or a static name's. In
//! between, if one object changed, it has to be the reply before or after the change. Queries that pass get CoreDNS' own
//! reply and are only counted.

#[path = "../common/lab/mod.rs"]
mod lab;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/cluster.rs"]
mod cluster;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/client.rs"]
mod client;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/node.rs"]
mod node;

#[allow(dead_code, reason = "the tests of the data plane use the rest")]
#[path = "../common/rng.rs"]
mod rng;

mod asker;
mod faults;
mod markers;
mod marks;
mod objects;
mod proxy;
mod questions;
mod static_names;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use asker::{Question, Seen, Wanted, ask_both, ask_until, client};
use client::Client;
use cluster::Cluster;
use faults::Fault;
use lab::Daemon;
use markers::Markers;
use node::Node;
use objects::Objects;
use proxy::Proxy;
use rng::Rng;
use static_names::StaticNames;
use writer::{Write, Writer};

/// Questions of a step; each is asked before and after.
const QUESTIONS: usize = 120;
/// Steps from one fault to the next.
const GOOD: usize = 8;
/// The number of writes that a failure prints.
const SHOWN: usize = 40;

struct Comparison {
    /// Dropped first, while the folder with its log exists.
    daemon: Daemon,
    cluster: Arc<Cluster>,
    node: Node,
    proxy: Proxy,
    via_edns: Client,
    direct: Client,
    writer: Writer,
    markers: Markers,
    objects: Objects,
    static_names: StaticNames,
    rng: Rng,
    seed: u64,
    written: VecDeque<String>,
    asked: usize,
    answered: usize,
    /// Questions to which CoreDNS doesn't reply.
    silent: usize,
}

#[test]
fn edns_and_coredns_differ_nowhere() {
    let questions: usize = std::env::var("EDNS_DIFFERENTIAL_QUESTIONS")
        .map_or(30_000, |n| n.parse().expect("EDNS_DIFFERENTIAL_QUESTIONS"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let seed = std::env::var("EDNS_DIFFERENTIAL_SEED").map_or_else(|_| now(), |s| s.parse().expect("a number"));
    println!("EDNS_DIFFERENTIAL_SEED={seed}");
    let mut comparison = Comparison::new(seed);
    let start = Instant::now();
    let mut steps = 0;
    while comparison.asked < questions {
        comparison.step(steps);
        steps += 1;
        if steps % 50 == 0 {
            println!("{:>6.0} s: {steps} steps, {}", start.elapsed().as_secs_f64(), comparison.summary());
        }
    }
    println!("{steps} steps, {}", comparison.summary());
    // Otherwise CoreDNS was compared with itself.
    assert!(comparison.answered * 3 > comparison.asked, "{}", comparison.summary());
    // Otherwise few replies were compared.
    assert!(comparison.silent * 50 < comparison.asked, "{}", comparison.summary());
}

impl Comparison {
    fn new(seed: u64) -> Self {
        let cluster = Arc::new(Cluster::new());
        let node = Node::new(&cluster);
        let proxy = Proxy::new(&node.lab, &cluster.lab.path("kubeconfig"));
        node.lab.open_kubeconfig("kubeconfig", proxy::PORT);
        node.configure_access("KubeConfig: kubeconfig", static_names::PASS_NAMES);
        StaticNames::default().write(&node.lab);
        let writer = Writer::new(&cluster.lab);
        let mut rng = Rng::new(seed);
        let mut objects = Objects::default();
        let mut written = VecDeque::new();
        let first: Vec<Write> = objects.first().into_iter().chain((0..30).map(|_| objects.random(&mut rng))).collect();
        for write in first {
            written.push_back(objects.note(&write, writer.write(&write)));
        }
        let daemon = node.daemon();
        let (via_edns, direct) = (client(&node, "pod", false), client(&node, "host", false));
        let mut comparison = Self {
            cluster,
            node,
            daemon,
            proxy,
            via_edns,
            direct,
            writer,
            objects,
            static_names: StaticNames::default(),
            rng,
            seed,
            written,
            markers: Markers::default(),
            asked: 0,
            answered: 0,
            silent: 0,
        };
        comparison.rest();
        comparison
    }

    fn summary(&self) -> String {
        let share = self.answered as f64 * 100.0 / self.asked.max(1) as f64;
        format!("{} questions, {share:.0} % answered in the kernel, {} without a reply", self.asked, self.silent)
    }

    /// Waits until both servers show what was written.
    fn rest(&mut self) {
        self.markers.pass(&self.writer, &self.static_names, &self.via_edns, &self.direct);
    }

    fn step(&mut self, number: usize) {
        let questions: Vec<Question> = (0..QUESTIONS).map(|_| questions::random(&mut self.rng)).collect();
        let edns = self.rng.one_in(2);
        (self.via_edns.edns, self.direct.edns) = (edns, edns);
        let before = self.compare(&questions, number);
        let is_static = self.rng.one_in(10);
        let count = if self.rng.one_in(3) { 2 + self.rng.below(8) } else { usize::from(!is_static) };
        let writes: Vec<Write> = (0..count).map(|_| self.objects.random(&mut self.rng)).collect();
        let is_single = count + usize::from(is_static) == 1;
        let fault = (number % GOOD == GOOD - 1).then(|| Fault::of((self.seed as usize).wrapping_add(number / GOOD)));
        let over = AtomicBool::new(false);
        let meanwhile = client(&self.node, "pod", edns);
        let seen = thread::scope(|scope| {
            let asking = scope.spawn(|| ask_until(&meanwhile, &questions, &over));
            // Ends the questions also if this panics.
            let ending = End(&over);
            self.begin(fault);
            for write in &writes {
                let done = self.writer.write(write);
                self.written.push_back(self.objects.note(write, done));
            }
            if is_static {
                self.static_names.change(&mut self.rng);
                self.static_names.write(&self.node.lab);
                self.written.push_back("domain.yaml".into());
            }
            self.end(fault);
            self.rest();
            drop(ending);
            asking.join().expect("no panic")
        });
        self.written.drain(..self.written.len().saturating_sub(SHOWN));
        self.asked += seen.len();
        let after = self.compare(&questions, number);
        for (i, seen) in seen {
            let is_it = |wanted: &Wanted| match (&seen, wanted) {
                (Seen::Kernel(edns_reply), Wanted::Reply(reply)) => edns_reply == reply,
                (Seen::Kernel(_), _) => false,
                (Seen::Lost, wanted) => *wanted == Wanted::Silence,
                (Seen::Passed, _) => true,
            };
            self.answered += usize::from(matches!(seen, Seen::Kernel(_)));
            if is_single && !is_it(&before[i]) && !is_it(&after[i]) {
                let ((name, rtype), before, after) = (&questions[i], &before[i], &after[i]);
                panic!(
                    "{name} {rtype}: {seen:?}\n is neither what was before\n  {before:?}\n nor what is after\n  {after:?}\n{}",
                    self.circumstances(number)
                );
            }
        }
    }

    /// Checks what eDNS does with each question. Returns what it had to do.
    fn compare(&mut self, questions: &[Question], step: usize) -> Vec<Wanted> {
        let mut all = Vec::with_capacity(questions.len());
        for question in questions {
            let (seen, coredns_reply) = ask_both(&self.via_edns, &self.direct, question);
            self.asked += 1;
            self.answered += usize::from(matches!(seen, Seen::Kernel(_)));
            self.silent += usize::from(coredns_reply.is_none());
            let (name, rtype) = question;
            let wanted = coredns_reply
                .as_ref()
                .map_or(Wanted::Silence, |coredns_reply| self.static_names.wanted(name, *rtype, coredns_reply));
            let is_it = match (&seen, &wanted) {
                (Seen::Kernel(edns_reply), Wanted::Reply(reply)) => edns_reply == reply,
                (Seen::Kernel(_), _) => false,
                (Seen::Passed, wanted) => *wanted != Wanted::Silence,
                (Seen::Lost, wanted) => *wanted == Wanted::Silence,
            };
            assert!(
                is_it,
                "{name} {rtype}\n  edns    {seen:?}\n  wanted  {wanted:?}\n  coredns {coredns_reply:?}\n{}",
                self.circumstances(step)
            );
            all.push(wanted);
        }
        all
    }

    /// Context for a failure.
    fn circumstances(&self, step: usize) -> String {
        let written: Vec<&str> = self.written.iter().map(String::as_str).collect();
        format!(
            "seed {}, step {step}, EDNS {}; written last:\n{}\n{}",
            self.seed,
            self.via_edns.edns,
            written.join("\n"),
            self.objects
        )
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
