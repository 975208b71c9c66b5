//! The figures and their report.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::RATES;
use crate::chart::{self, Bars};
use crate::contenders::ALL;
use crate::services::Services;
use crate::traffic::{Busy, Latency, Run};

/// More than the timers of the servers and of the API server take: another process runs on the machine.
const IDLE_MAX: f64 = 0.2;

/// The figures of one contender.
#[derive(Clone, Copy)]
pub struct Figures {
    /// Answered queries per second, without a limit.
    pub per_second: f64,
    /// Latency at each rate in microseconds.
    pub latency: [Latency; RATES.len()],
    /// Answered queries per second at each rate, and the share of lost ones.
    pub kept: [[f64; 2]; RATES.len()],
    /// Microseconds of processor time per query: of the whole machine above idle, and of the client's own code.
    pub cpu: [f64; 2],
    /// Busy processors without queries.
    pub idle: f64,
}

impl Figures {
    pub fn of_round(most: &Run, steady: &[(Run, Latency); RATES.len()], idle: Busy, busy: Busy, ran: &Run) -> Self {
        let cost = |cores: f64| cores / ran.per_second * 1e6;
        Self {
            per_second: most.per_second,
            latency: steady.map(|(_, latency)| latency),
            kept: steady.map(|(run, _)| [run.per_second, run.lost]),
            cpu: [cost(busy.cores - idle.cores), cost(busy.client)],
            idle: idle.cores,
        }
    }

    pub fn median(rounds: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            per_second: of(&|f| f.per_second),
            latency: std::array::from_fn(|rate| std::array::from_fn(|p| of(&|f| f.latency[rate][p]))),
            kept: std::array::from_fn(|rate| std::array::from_fn(|k| of(&|f| f.kept[rate][k]))),
            cpu: std::array::from_fn(|i| of(&|f| f.cpu[i])),
            idle: of(&|f| f.idle),
        }
    }
}

/// Prints the tables.
pub fn print(services: &Services, outcomes: &BTreeMap<String, usize>, questions: &[String], figures: &[Figures]) {
    let ours = &figures[0];
    let outcomes: Vec<String> = outcomes.iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
    println!("\n## Against DNS servers\n");
    let idle = Figures::median(figures).idle;
    println!(
        "{} Services, {} questions of pods; {} of them were put to everybody first, with the same answers. Without queries, \
         {idle:.2} processors were busy.\n",
        services.count,
        questions.len(),
        outcomes.join(", ")
    );
    if idle > IDLE_MAX {
        eprintln!("servers: {idle:.1} processors were busy with something else: these figures say little");
    }
    println!("![p99 latency, CPU per query and queries per second](servers.svg)\n");
    println!("| | queries/s | by eDNS' | CPU per query | by eDNS' | of it the client's code |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (contender, figures) in ALL.iter().zip(figures) {
        let Figures { per_second, cpu: [cpu, client], .. } = figures;
        let (rate, cost) = (per_second / ours.per_second, cpu / ours.cpu[0]);
        println!("| {} | {per_second:.0} | {rate:.2} | {cpu:.1} µs | {cost:.2} | {client:.1} µs |", contender.name);
    }
    println!("\n![latency](latency.svg)");
    for (i, rate) in RATES.iter().enumerate() {
        println!("\n| at {rate} queries/s | mean | by eDNS' | p50 | p99 | by eDNS' | p99.9 | answered |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        for (contender, figures) in ALL.iter().zip(figures) {
            let ([mean, p50, p99, p999], [kept, lost]) = (figures.latency[i], figures.kept[i]);
            let [by_mean, _, by_p99, _] = std::array::from_fn(|k| figures.latency[i][k] / ours.latency[i][k]);
            let lost = if lost > 0.0 { format!(", {:.2} % lost", lost * 100.0) } else { String::new() };
            println!(
                "| {} | {mean:.0} µs | {by_mean:.1} | {p50:.0} µs | {p99:.0} µs | {by_p99:.1} | {p999:.0} µs | {kept:.0}/s{lost} |",
                contender.name
            );
        }
    }
}

/// Writes the plots and the sentences for the README.
pub fn write(dir: &Path, figures: &[Figures]) {
    let names = ALL.map(|c| c.name);
    let [_, steady] = RATES;
    let panel =
        |title: String, value: &dyn Fn(&Figures) -> f64| Bars { title, values: figures.iter().map(value).collect() };
    let bars = [
        panel(format!("p99 latency at {steady}/s, µs"), &|f| f.latency[1][2]),
        panel("CPU per query, µs".into(), &|f| f.cpu[0]),
        panel("queries per second".into(), &|f| f.per_second),
    ];
    let percentiles = |f: &Figures| {
        let [_mean, percentiles @ ..] = f.latency[1];
        percentiles
    };
    let latencies: Vec<[f64; 3]> = figures.iter().map(percentiles).collect();
    let title = format!("latency at {steady} queries/s, µs: p50, p99, p99.9");
    let [edns, coredns, cache, ..] = figures else { unreachable!("as many as contenders") };
    let headline = format!(
        "p99 latency at {steady} queries per second on one node: eDNS {:.0} µs, NodeLocal DNSCache {:.0} µs, CoreDNS {:.0} µs.\n\
         CPU time per query, client included: eDNS {:.1} µs, NodeLocal DNSCache {:.1} µs, CoreDNS {:.1} µs.\n",
        edns.latency[1][2], cache.latency[1][2], coredns.latency[1][2], edns.cpu[0], cache.cpu[0], coredns.cpu[0]
    );
    for (file, text) in [
        ("servers.svg", chart::bars(&names, &bars)),
        ("latency.svg", chart::dots(&title, &names, &latencies)),
        ("headline.txt", headline),
    ] {
        let path = dir.join(file);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}
