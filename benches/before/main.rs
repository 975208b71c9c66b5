//! Compares the daemon of this tree with that of another version, and that version with itself: time to `ready`, memory, and
//! time per packet. It uses only what every version promises: config, records, `ready`, `stats` and an interface.
//!
//! `cargo bench --bench before -- [--before=PROGRAM] [--quick]`; root, Linux 6.6. A table in Markdown on stdout.

#[path = "../../tests/common/lab/mod.rs"]
mod lab;

#[path = "../scale/fake_apiserver.rs"]
mod fake_apiserver;
#[path = "../common/non_dns.rs"]
mod non_dns;
#[allow(dead_code, reason = "real API servers need the rest")]
#[path = "../scale/objects.rs"]
mod objects;
#[allow(dead_code, reason = "tests use the rest")]
#[path = "../../tests/common/rng.rs"]
mod rng;
#[path = "../common/run_time.rs"]
mod run_time;

mod contender;
mod figures;
mod load;
mod traffic;

use std::time::Duration;

use contender::Contender;
use figures::Figures;
use lab::EDNS;
use load::{LOADS, Pages};
use rng::Rng;

/// The contenders: the other version, this tree's, and the other version again.
const CONTENDERS: usize = 3;

fn main() {
    let option = |key: &str| std::env::args().find_map(|a| a.strip_prefix(key).map(str::to_owned));
    let quick = option("--quick").is_some();
    let rounds = if quick { 2 } else { 14 };
    let time = Duration::from_millis(if quick { 100 } else { 400 });
    let before = option("--before=").unwrap_or_else(|| EDNS.to_owned());

    let pages = Pages::new();
    let mut contenders = [&before, EDNS, &before].map(|program| Contender::new(program.as_ref(), &pages));
    let (mut figures, mut rng) = (Figures::default(), Rng::new(1));
    let _stats = run_time::enable_stats();
    // The labs create some files at the first use.
    for load in &LOADS {
        contenders[0].start(load);
        contenders[0].stop();
    }
    for _ in 0..rounds {
        for load in &LOADS {
            // All run at the same time and are measured in turn, so that other load on the machine affects all of them.
            let started = in_turn(&mut rng, &mut contenders, |c| c.start(load));
            figures.add(&format!("{}: start to ready", load.what), "ms", started.each_ref().map(|s| s.ready));
            figures.add(&format!("{}: CPU until then", load.what), "ms", started.each_ref().map(|s| s.cpu));
            figures.add(&format!("{}: resident", load.what), "MiB", started.each_ref().map(|s| s.resident));
            figures.add(&format!("{}: maps", load.what), "MiB", started.each_ref().map(|s| s.maps));
            for traffic in load.traffic {
                let cost = in_turn(&mut rng, &mut contenders, |c| c.cost(|lab| traffic.send(lab, time)));
                figures.add(&format!("{}: {}", load.what, traffic.what()), "ns", cost);
            }
            in_turn(&mut rng, &mut contenders, Contender::stop);
        }
    }
    figures.print(rounds);
}

/// Does something with each contender, in random order. Returns the results in the order of the contenders.
fn in_turn<T>(
    rng: &mut Rng,
    contenders: &mut [Contender; CONTENDERS],
    mut work: impl FnMut(&mut Contender) -> T,
) -> [T; CONTENDERS] {
    let mut order: [usize; CONTENDERS] = std::array::from_fn(|i| i);
    for i in (1..CONTENDERS).rev() {
        order.swap(i, rng.below(i + 1));
    }
    let mut results = [const { None }; CONTENDERS];
    for i in order {
        results[i] = Some(work(&mut contenders[i]));
    }
    results.map(|result| result.expect("each had its turn"))
}
