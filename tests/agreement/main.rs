//! The same random frames to the daemon of another commit (EDNS_BEFORE) and to that of this tree, over the same records: what comes
//! out has to be the same octet for octet. `make agreement BEFORE=commit`: a million frames.
//!
//! Both are driven by what every version promises: config.yaml, domain.yaml, the log line `ready`, an interface, and `/metrics`. Each
//! has four interfaces in network namespaces of its own; all daemons read one real API server. A frame is answered, or it passes: then
//! a program behind the daemon's sends it out to where it is compared with what was sent. In each round some objects and static names
//! change, and frames are sent when all daemons show the change.
//!
//! EDNS_AGREEMENT_QUERIES says how many, EDNS_AGREEMENT_SEED repeats a run.

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/cluster.rs"]
mod cluster;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/client.rs"]
mod client;

#[allow(dead_code, reason = "the tests of the cluster use the rest")]
#[path = "../k8s/node.rs"]
mod node;

#[path = "../common/mod.rs"]
mod common;

#[path = "../differential/marks.rs"]
mod marks;

#[path = "../differential/objects.rs"]
mod objects;

#[path = "../differential/questions.rs"]
mod questions;

#[path = "../differential/writer.rs"]
mod writer;

mod compare;
mod frames;
mod rest;
mod side;
mod static_names;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cluster::Cluster;
use common::{env_number, lab, rng};
use compare::{BATCH, Tally, send};
use lab::{EDNS, run};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use objects::Objects;
use rest::Markers;
use rng::Rng;
use side::{Side, WIRES, lane};
use static_names::Statics;
use writer::Writer;

/// MTUs that rounds have by turns: above all that is sent, the usual one, and one that many answers exceed.
const MTUS: [usize; 3] = [9000, 1500, 700];

#[test]
fn both_programs_do_the_same_with_every_frame() {
    let frames = env_number("EDNS_AGREEMENT_QUERIES", 100_000) as usize;
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let seed = env_number("EDNS_AGREEMENT_SEED", seconds());
    println!("EDNS_AGREEMENT_SEED={seed}");
    let before =
        std::env::var_os("EDNS_BEFORE").filter(|path| !path.is_empty()).expect("EDNS_BEFORE is a daemon's program");

    let cluster = Arc::new(Cluster::without_dns());
    // After the certificates were made, which are not valid before.
    let clock = [("LD_PRELOAD", clock(&cluster)), ("EDNS_AGREEMENT_TIME", PathBuf::from(seconds().to_string()))];
    let mut rng = Rng::new(seed);
    let (writer, mut objects, mut statics) = (Writer::new(&cluster.lab), Objects::default(), Statics::default());
    for write in objects.first() {
        objects.note(&write, writer.write(&write));
    }
    let sides = [("before", Path::new(&before)), ("after", Path::new(EDNS))]
        .map(|(name, program)| Side::start(name, program, &cluster, &clock));
    stay_on_one_processor();

    let names = frames::names(&mut rng);
    let (mut tally, mut markers, started) = (Tally::default(), Markers::default(), Instant::now());
    for round in 0.. {
        if tally.sent >= frames {
            break;
        }
        let writes = if round == 0 { 40 } else { 1 + rng.below(8) };
        for _ in 0..writes {
            let write = objects.random(&mut rng);
            objects.note(&write, writer.write(&write));
        }
        if round == 0 || rng.one_in(3) {
            statics.change(&mut rng);
            sides.iter().for_each(|side| statics.write(&side.node.lab));
        }
        sides.iter().for_each(|side| side.set_mtu(MTUS[0]));
        markers.pass(&writer, &statics, &sides);
        sides.iter().for_each(|side| side.set_mtu(MTUS[round % MTUS.len()]));
        for i in 0..WIRES {
            let what = format!("EDNS_AGREEMENT_SEED={seed}, round {round}, {}", lane(i));
            send(&what, &sides, i, &mut tally, || frames::random(&mut rng, &names));
        }
        if round % 20 == 0 {
            println!("{:>5.0} s: {}", started.elapsed().as_secs_f64(), tally.text());
        }
    }
    println!("{:>5.0} s: {}", started.elapsed().as_secs_f64(), tally.text());
    let [before, after] = &tally.counted;
    for (outcome, count) in before {
        println!("{outcome:<50} {count:>9} {:>9}", after.get(outcome).unwrap_or(&0));
    }
    // Else little was compared.
    assert!(tally.answered * 5 > tally.sent && tally.passed * 5 > tally.sent, "{}", tally.text());
    assert!(tally.silent * BATCH * 20 <= tally.sent, "{}", tally.text());
}

/// Compiles clock.c.
fn clock(cluster: &Cluster) -> PathBuf {
    let library = cluster.lab.path("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agreement/clock.c");
    run(Command::new("gcc").args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).arg("-ldl"));
    library
}

/// Frames of one batch might overtake each other on several processors.
fn stay_on_one_processor() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the processors");
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true)).expect("a processor");
    let mut one = CpuSet::new();
    one.set(first).expect("a processor");
    sched_setaffinity(this, &one).expect("a processor");
}
