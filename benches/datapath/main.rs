//! The cost of an answer in the kernel, and the cost for other packets. Measured on a veth pair between two network
//! namespaces; contenders take turns, and figures are medians of the rounds. Only ratios count, because machines are noisy.
//!
//! `cargo bench --bench datapath -- [--quick]`; root. Tables in Markdown on stdout; run.sh makes RESULTS.md of them.

#[path = "../../tests/common/lab/mod.rs"]
mod lab;

#[path = "../common/non_dns.rs"]
mod non_dns;
mod pair;
mod programs;
#[path = "../common/run_time.rs"]
mod run_time;
mod traffic;

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use edns::datapath::{Datapath, Program};

use pair::{NODE_IFNAME, Pair, SERVER};
use programs::{attach, load_baseline, load_edns, with_beat};
use run_time::{enable_stats, run_time};

/// The programs with which others are compared.
const PROTOTYPE: &str = "prototype";
const PROTOTYPE_TO_PEER: &str = "prototype, to the peer";

/// Queries a second at which latency is measured.
const RATE: u32 = 20_000;

const NAMES: [usize; 3] = [10, 10_000, 1_000_000];

/// How much is measured.
struct Effort {
    rounds: usize,
    /// Time of one contender in one round.
    time: Duration,
}

fn main() {
    let quick = std::env::args().any(|a| a == "--quick");
    let effort = Effort { rounds: if quick { 3 } else { 5 }, time: Duration::from_secs(if quick { 1 } else { 3 }) };
    let pair = Pair::new();
    let scratch = std::env::temp_dir().join(format!("edns-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a scratch folder");
    let baseline = programs::compile_baseline(&scratch);

    start_up(effort.rounds);
    let (mut sizes, mut non_dns_rows, mut latencies) = (Vec::new(), String::new(), Vec::new());
    println!("\n## Time in the program, answers\n");
    println!("| names | program | ns a query | above empty | by the prototype's | queries/s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for names in NAMES {
        let queries = traffic::query_file(&scratch, names);
        let mut rounds = Rounds::default();
        let (mut filled, mut memory) = (Duration::ZERO, 0);
        // Filled anew in each round, because the place of the names in memory affects the time.
        for round in 0..effort.rounds {
            let object = load_baseline(&baseline, names);
            let (datapath, table, _, time) = load_edns(names);
            (filled, memory) = (time, table.memory());
            let program = |name: &str| object.progs().find(|p| p.name() == name).expect("a baseline");
            let [empty, floor, prototype, to_peer] = ["empty", "floor", "prototype", "prototype_peer"].map(program);
            let contenders = [
                // The prototype answers after the empty program, so that the client sends as many queries as with the others.
                Contender { name: "empty", program: empty.as_fd(), behind: Some(prototype.as_fd()) },
                Contender::alone("floor", floor.as_fd()),
                Contender::alone(PROTOTYPE, prototype.as_fd()),
                Contender::alone("edns", datapath.program(Program::Ethernet).expect("a program")),
                Contender::alone(PROTOTYPE_TO_PEER, to_peer.as_fd()),
                Contender::alone("edns, to the peer", datapath.program(Program::EthernetToPeer).expect("a program")),
            ];
            rounds.measure(effort.time, &datapath, &contenders, |time| traffic::dnsperf(&pair, &queries, time));
            if names == 10_000 && round == 0 {
                latencies = latency(&effort, &pair, &datapath, &contenders[2..], &queries);
                non_dns_rows = others(&effort, &pair, &datapath, &[0, 2, 3].map(|i| contenders[i].without_behind()));
            }
        }
        let rows = rounds.medians();
        let above = |row: &Row| row.ns - rows[0].ns;
        let mut prototype = 0.0;
        for row in &rows {
            // A prototype precedes the rows that are compared with it.
            if [PROTOTYPE, PROTOTYPE_TO_PEER].contains(&row.name) {
                prototype = above(row);
            }
            let by = if prototype > 0.0 { format!("{:.2}", above(row) / prototype) } else { String::new() };
            println!("| {names} | {} | {:.0} | {:.0} | {by} | {:.0} |", row.name, row.ns, above(row), row.traffic);
        }
        sizes.push((names, filled, memory));
    }
    println!("\n## Latency at {RATE} queries/s, 10000 names\n");
    println!("| program | mean | by the prototype's |");
    println!("| --- | --- | --- |");
    for pair in latencies.chunks(2) {
        for row in pair {
            println!("| {} | {:.1} µs | {:.2} |", row.name, row.traffic, row.traffic / pair[0].traffic);
        }
    }
    println!("\n## Time in the program, packets other than DNS\n");
    println!("| packet | program | ns a packet | by the empty program's | sent/s |");
    println!("| --- | --- | --- | --- | --- |");
    print!("{non_dns_rows}");
    println!("\n## Filling the maps\n");
    println!("| names | time | octets of kernel memory a name |");
    println!("| --- | --- | --- |");
    for (names, filled, memory) in sizes {
        println!("| {names} | {:.1} ms | {:.0} |", filled.as_secs_f64() * 1e3, memory as f64 / names as f64);
    }
    let _ = std::fs::remove_dir_all(scratch);
}

/// The time from the start until attached with 1,000 names.
fn start_up(rounds: usize) {
    let times = (0..rounds.max(5)).map(|_| {
        let start = Instant::now();
        let (datapath, _table, loaded, filled) = load_edns(1000);
        let _link = attach(datapath.program(Program::EthernetToPeer).expect("a program"), NODE_IFNAME);
        [loaded, filled, start.elapsed()].map(|t| t.as_secs_f64() * 1e3)
    });
    let times: Vec<[f64; 3]> = times.collect();
    let [loaded, filled, all] = [0, 1, 2].map(|i| median(times.iter().map(|t| t[i]).collect()));
    println!("\n## Start, with 1,000 names\n");
    println!("| load the programs | fill the maps | until attached, all in all |");
    println!("| --- | --- | --- |");
    println!("| {loaded:.0} ms | {filled:.1} ms | {all:.0} ms |");
}

/// The mean latency of each contender at a steady rate.
fn latency(
    effort: &Effort,
    pair: &Pair,
    datapath: &Datapath,
    contenders: &[Contender<'_>],
    queries: &Path,
) -> Vec<Row> {
    let mut rounds = Rounds::default();
    for _ in 0..effort.rounds {
        rounds.measure(effort.time, datapath, contenders, |time| traffic::latency(pair, queries, time, RATE));
    }
    rounds.medians()
}

/// The cost for packets other than DNS: each contender against the first one, in Markdown.
fn others(effort: &Effort, pair: &Pair, datapath: &Datapath, contenders: &[Contender<'_>]) -> String {
    let mut table = String::new();
    let mut add = |packet, traffic: &(dyn Fn(Duration) -> f64 + Sync)| {
        let mut rounds = Rounds::default();
        for _ in 0..effort.rounds {
            rounds.measure(effort.time, datapath, contenders, traffic);
        }
        let rows = rounds.medians();
        for row in &rows {
            let by = row.ns / rows[0].ns;
            writeln!(table, "| {packet} | {} | {:.0} | {by:.2} | {:.0} |", row.name, row.ns, row.traffic)
                .expect("memory");
        }
    };
    add("TCP", &|time| non_dns::tcp(SERVER, || pair.enter_pod(), time));
    add("UDP, another port", &|time| non_dns::udp(SERVER, || pair.enter_pod(), time));
    table
}

struct Contender<'a> {
    name: &'static str,
    program: BorrowedFd<'a>,
    /// A program attached after it, which sees the packets that it passes.
    behind: Option<BorrowedFd<'a>>,
}

impl<'a> Contender<'a> {
    const fn alone(name: &'static str, program: BorrowedFd<'a>) -> Self {
        Self { name, program, behind: None }
    }

    const fn without_behind(&self) -> Self {
        Self { name: self.name, program: self.program, behind: None }
    }
}

/// The figures of one contender.
struct Row {
    name: &'static str,
    /// Nanoseconds per run.
    ns: f64,
    /// The result of the traffic: a rate per second, or a latency.
    traffic: f64,
}

/// For each contender the nanoseconds per run and the results of the traffic, by round.
#[derive(Default)]
struct Rounds(Vec<(&'static str, Vec<f64>, Vec<f64>)>);

impl Rounds {
    /// Measures one round: all contenders in turn.
    fn measure(
        &mut self,
        time: Duration,
        datapath: &Datapath,
        contenders: &[Contender<'_>],
        traffic: impl Fn(Duration) -> f64 + Sync,
    ) {
        let _stats = enable_stats();
        if self.0.is_empty() {
            self.0 = contenders.iter().map(|c| (c.name, Vec::new(), Vec::new())).collect();
        }
        for (contender, (_, ns, results)) in contenders.iter().zip(&mut self.0) {
            let _link = attach(contender.program, NODE_IFNAME);
            let _behind = contender.behind.map(|program| attach(program, NODE_IFNAME));
            let before = run_time(contender.program);
            results.push(with_beat(datapath, || traffic(time)));
            let after = run_time(contender.program);
            assert!(after.1 > before.1, "{} never ran", contender.name);
            ns.push((after.0 - before.0) as f64 / (after.1 - before.1) as f64);
        }
    }

    fn medians(self) -> Vec<Row> {
        self.0.into_iter().map(|(name, ns, traffic)| Row { name, ns: median(ns), traffic: median(traffic) }).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
