//! What an answer costs in the kernel, and what other packets pay for it: over a veth pair between two network namespaces,
//! contenders in turn, medians of the rounds. Ratios count: machines are noisy.
//!
//! `cargo bench --bench datapath -- [--quick]`; root. Tables in Markdown on stdout; run.sh makes RESULTS.md of them.

mod lab;
mod programs;
mod traffic;

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use edns::datapath::{Datapath, Program};

use lab::{Lab, NODE_IFNAME};
use programs::{attach, load_baseline, load_edns, run_time, with_beat};

const NAMES: [usize; 3] = [10, 10_000, 1_000_000];

/// How much to measure.
struct Effort {
    rounds: usize,
    /// Of one contender in one round.
    time: Duration,
}

fn main() {
    let quick = std::env::args().any(|a| a == "--quick");
    let effort = Effort { rounds: if quick { 3 } else { 5 }, time: Duration::from_secs(if quick { 1 } else { 3 }) };
    let lab = Lab::new();
    let scratch = std::env::temp_dir().join(format!("edns-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a scratch folder");
    let baseline = programs::compile_baseline(&scratch);

    start_up(effort.rounds);
    let (mut sizes, mut no_dns) = (Vec::new(), String::new());
    println!("\n## Time in the program, answers\n");
    println!("| names | program | ns a query | above empty | by the prototype's | queries/s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for names in NAMES {
        let queries = traffic::query_file(&scratch, names);
        let object = load_baseline(&baseline, names);
        let (datapath, table, _, filled) = load_edns(names);
        let program = |name: &str| object.progs().find(|p| p.name() == name).expect("a baseline");
        let (empty, floor, prototype) = (program("empty"), program("floor"), program("prototype"));
        let contenders = [
            // The prototype answers what the empty program lets pass, so that the client asks as often as elsewhere.
            Contender { name: "empty", program: empty.as_fd(), behind: Some(prototype.as_fd()) },
            Contender::alone("floor", floor.as_fd()),
            Contender::alone("prototype", prototype.as_fd()),
            Contender::alone("edns", datapath.program(Program::Ethernet).expect("a program")),
            Contender::alone("edns, to the peer", datapath.program(Program::EthernetToPeer).expect("a program")),
        ];
        let rows = measure(&effort, &datapath, &contenders, |time| traffic::dnsperf(&lab, &queries, time));
        for (contender, (ns, rate)) in contenders.iter().zip(&rows) {
            let (above, by) = (ns - rows[0].0, (ns - rows[0].0) / (rows[2].0 - rows[0].0));
            println!("| {names} | {} | {ns:.0} | {above:.0} | {by:.2} | {rate:.0} |", contender.name);
        }
        sizes.push((names, filled, table.memory()));
        if names == 10_000 {
            let contenders = [0, 2, 3].map(|i| contenders[i].without_behind());
            no_dns = others(&effort, &lab, &datapath, &contenders);
        }
    }
    println!("\n## Time in the program, packets that are no DNS\n");
    println!("| packet | program | ns a packet | by the empty program's | sent/s |");
    println!("| --- | --- | --- | --- | --- |");
    print!("{no_dns}");
    println!("\n## Filling the maps\n");
    println!("| names | time | octets of kernel memory a name |");
    println!("| --- | --- | --- |");
    for (names, filled, memory) in sizes {
        println!("| {names} | {:.1} ms | {:.0} |", filled.as_secs_f64() * 1e3, memory as f64 / names as f64);
    }
    let _ = std::fs::remove_dir_all(scratch);
}

/// From nothing to attached with 1,000 names.
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

/// What packets pay that are no DNS: each contender against the first one, in Markdown.
fn others(effort: &Effort, lab: &Lab, datapath: &Datapath, contenders: &[Contender<'_>]) -> String {
    let mut table = String::new();
    let mut rows = |packet, results: &[(f64, f64)]| {
        for (contender, (ns, rate)) in contenders.iter().zip(results) {
            let by = ns / results[0].0;
            writeln!(table, "| {packet} | {} | {ns:.0} | {by:.2} | {rate:.0} |", contender.name).expect("memory");
        }
    };
    rows("TCP", &measure(effort, datapath, contenders, |time| traffic::tcp(lab, time)));
    rows("UDP, another port", &measure(effort, datapath, contenders, |time| traffic::udp(lab, time)));
    table
}

struct Contender<'a> {
    name: &'static str,
    program: BorrowedFd<'a>,
    /// Attached behind it: sees what it lets pass.
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

/// Nanoseconds a run of each contender, and the rate of its traffic: medians.
fn measure(
    effort: &Effort,
    datapath: &Datapath,
    contenders: &[Contender<'_>],
    traffic: impl Fn(Duration) -> f64 + Sync,
) -> Vec<(f64, f64)> {
    let _stats = programs::enable_stats();
    let mut results = vec![(Vec::new(), Vec::new()); contenders.len()];
    for _ in 0..effort.rounds {
        for (contender, (ns, rates)) in contenders.iter().zip(&mut results) {
            let _link = attach(contender.program, NODE_IFNAME);
            let _behind = contender.behind.map(|program| attach(program, NODE_IFNAME));
            let before = run_time(contender.program);
            rates.push(with_beat(datapath, || traffic(effort.time)));
            let after = run_time(contender.program);
            assert!(after.1 > before.1, "{} never ran", contender.name);
            ns.push((after.0 - before.0) as f64 / (after.1 - before.1) as f64);
        }
    }
    results.into_iter().map(|(ns, rates)| (median(ns), median(rates))).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
