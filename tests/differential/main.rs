//! Random questions over random objects, to eDNS and to a real CoreDNS, while the way to the API server has bad days: it is
//! killed, replies 410 and 500, breaks off within events; and daemons take over. `make differential`: a million questions.
//!
//! It goes in steps. Each asks, writes something, asks eDNS meanwhile, and asks both again when both show what was written
//! last ([`Markers`]). At rest every reply of eDNS has to be CoreDNS's. In between, where one object changed, it has to be what
//! CoreDNS said before, or what it says after. What passes is CoreDNS's own reply, and is only counted.

#[allow(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../daemon/lab.rs"]
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

mod markers;
mod objects;
mod proxy;
mod questions;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal::SIGTERM;

use client::{Client, Reply, TRIES};
use cluster::Cluster;
use lab::Daemon;
use markers::Markers;
use node::Node;
use objects::Objects;
use proxy::{Mode, Proxy};
use rng::Rng;
use writer::{Write, Writer};

/// Questions of a step, each asked before and after.
const QUESTIONS: usize = 120;
/// Asked meanwhile, at most; and the pause between them from some on, where news takes long.
const MEANWHILE: usize = 2000;
const MEANWHILE_FAST: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);
/// Steps between bad days.
const GOOD: usize = 8;
/// Writes that a failure shows.
const SHOWN: usize = 40;

type Question = (String, RecordType);

struct Beside {
    cluster: Arc<Cluster>,
    node: Node,
    daemon: Daemon,
    proxy: Proxy,
    ours: Client,
    theirs: Client,
    writer: Writer,
    markers: Markers,
    objects: Objects,
    rng: Rng,
    seed: u64,
    written: VecDeque<String>,
    asked: usize,
    answered: usize,
}

#[test]
fn edns_and_coredns_differ_nowhere() {
    let questions: usize = std::env::var("EDNS_DIFFERENTIAL_QUESTIONS")
        .map_or(30_000, |n| n.parse().expect("EDNS_DIFFERENTIAL_QUESTIONS"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let seed = std::env::var("EDNS_DIFFERENTIAL_SEED").map_or_else(|_| now(), |s| s.parse().expect("a number"));
    println!("EDNS_DIFFERENTIAL_SEED={seed}");
    let mut beside = Beside::new(seed);
    let start = Instant::now();
    let mut steps = 0;
    while beside.asked < questions {
        beside.step(steps);
        steps += 1;
        if steps % 50 == 0 {
            println!("{:>6.0} s: {steps} steps, {}", start.elapsed().as_secs_f64(), beside.summary());
        }
    }
    println!("{steps} steps, {}", beside.summary());
    // Else CoreDNS was compared with itself.
    assert!(beside.answered * 2 > beside.asked, "{}", beside.summary());
}

impl Beside {
    fn new(seed: u64) -> Self {
        let cluster = Arc::new(Cluster::new());
        let node = Node::new(&cluster);
        let proxy = Proxy::new(&node.lab, &cluster.lab.path("kubeconfig"));
        node.lab.write("kubeconfig", &proxy.kubeconfig());
        node.configure_access("KubeConfig: kubeconfig", "");
        let writer = Writer::new(&cluster.lab);
        let mut rng = Rng::new(seed);
        let mut objects = Objects::default();
        let mut written = VecDeque::new();
        let first: Vec<Write> = objects.first().into_iter().chain((0..30).map(|_| objects.random(&mut rng))).collect();
        for write in first {
            written.push_back(objects.note(&write, writer.write(&write)));
        }
        let daemon = node.daemon();
        let (ours, theirs) = (node.pod(), node.beside());
        let mut beside = Self {
            cluster,
            node,
            daemon,
            proxy,
            ours,
            theirs,
            writer,
            objects,
            rng,
            seed,
            written,
            markers: Markers::default(),
            asked: 0,
            answered: 0,
        };
        beside.rest();
        beside
    }

    fn summary(&self) -> String {
        let share = self.answered as f64 * 100.0 / self.asked.max(1) as f64;
        format!("{} questions, {share:.0} % answered in the kernel", self.asked)
    }

    /// Writes the markers anew, and waits until both servers show them.
    fn rest(&mut self) {
        self.markers.write(&self.writer);
        self.markers.wait(&self.ours, &self.theirs);
    }

    fn step(&mut self, number: usize) {
        let questions: Vec<Question> = (0..QUESTIONS).map(|_| questions::random(&mut self.rng)).collect();
        let before = self.compare(&questions, number);
        let writes: Vec<Write> = {
            let count = if self.rng.one_in(3) { 2 + self.rng.below(8) } else { 1 };
            (0..count).map(|_| self.objects.random(&mut self.rng)).collect()
        };
        let is_single = writes.len() == 1;
        let bad = number % GOOD == GOOD - 1;
        let over = AtomicBool::new(false);
        let meanwhile = Client::new(&self.node.lab, "pod", cluster::DNS);
        let seen = thread::scope(|scope| {
            let asking = scope.spawn(|| ask_until(&meanwhile, &questions, &over));
            // Also where the rest panics.
            let ending = End(&over);
            let day = bad.then(|| self.rng.below(8));
            self.begin_bad(day);
            for write in &writes {
                let done = self.writer.write(write);
                self.written.push_back(self.objects.note(write, done));
            }
            self.end_bad(day);
            self.rest();
            drop(ending);
            asking.join().expect("no panic")
        });
        self.written.drain(..self.written.len().saturating_sub(SHOWN));
        self.asked += seen.len();
        let after = self.compare(&questions, number);
        for (i, reply) in seen {
            let Some(reply) = reply else { continue };
            self.answered += 1;
            if is_single && reply != before[i] && reply != after[i] {
                let (name, rtype) = &questions[i];
                panic!(
                    "{name} {rtype}: {reply:?}\n is neither what was before\n  {:?}\n nor what is after\n  {:?}\n{}",
                    before[i],
                    after[i],
                    self.circumstances(number)
                );
            }
        }
    }

    /// What CoreDNS says, after a look whether eDNS says the same.
    fn compare(&mut self, questions: &[Question], step: usize) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(questions.len());
        for (name, rtype) in questions {
            let (our, in_kernel) = ask(&self.ours, name, *rtype);
            let (their, _) = ask(&self.theirs, name, *rtype);
            self.asked += 1;
            self.answered += usize::from(in_kernel);
            assert!(
                !in_kernel || our == their,
                "{name} {rtype}\n  edns    {our:?}\n  coredns {their:?}\n{}",
                self.circumstances(step)
            );
            replies.push(their);
        }
        replies
    }

    /// What helps to find out why.
    fn circumstances(&self, step: usize) -> String {
        let written: Vec<&str> = self.written.iter().map(String::as_str).collect();
        format!("seed {}, step {step}; written last:\n{}\n{}", self.seed, written.join("\n"), self.objects)
    }

    fn begin_bad(&mut self, day: Option<usize>) {
        match day {
            Some(0) => self.proxy.set(Mode::Gone),
            Some(1) => self.proxy.set(Mode::GoneInStream),
            Some(2) => self.proxy.set(Mode::Error),
            Some(3) => self.proxy.set(Mode::ErrorInStream),
            Some(4) => self.proxy.set(Mode::Half),
            Some(5) => {
                self.cluster.kill_api();
                self.cluster.start_api();
            }
            Some(6) => {
                let new = self.node.daemon();
                let mut old = std::mem::replace(&mut self.daemon, new);
                old.signal(SIGTERM);
                old.wait();
            }
            _ => {}
        }
    }

    fn end_bad(&mut self, day: Option<usize>) {
        if day == Some(7) {
            // What was just written is not told yet, or is it?
            self.cluster.kill_api();
            self.cluster.start_api();
        }
        if day.is_some_and(|day| day < 5) {
            thread::sleep(Duration::from_millis(self.rng.below(3000) as u64));
            self.proxy.set(Mode::Through);
        }
    }
}

/// The reply, and whether it was made in the kernel.
fn ask(client: &Client, name: &str, rtype: RecordType) -> (Reply, bool) {
    let reply = (0..TRIES).find_map(|_| client.ask_whom(name, rtype));
    reply.unwrap_or_else(|| panic!("no reply: {name} {rtype}"))
}

/// Asks again and again; returns the number of each question with its reply, where it was made in the kernel.
fn ask_until(client: &Client, questions: &[Question], over: &AtomicBool) -> Vec<(usize, Option<Reply>)> {
    let mut seen = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let i = seen.len() % questions.len();
        let (name, rtype) = &questions[i];
        let (reply, in_kernel) = ask(client, name, *rtype);
        if seen.len() < MEANWHILE {
            seen.push((i, in_kernel.then_some(reply)));
        }
        if seen.len() > MEANWHILE_FAST {
            thread::sleep(PAUSE);
        }
    }
    seen
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
