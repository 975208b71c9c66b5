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

#[path = "../differential/objects.rs"]
mod objects;

#[path = "../differential/questions.rs"]
mod questions;

#[path = "../differential/writer.rs"]
mod writer;

mod frames;
mod rest;
mod side;
mod static_names;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cluster::Cluster;
use common::packet::{ETHERNET, IPV4, hex};
use common::raw::Received;
use common::{env_number, lab, rng};
use lab::{EDNS, run};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use objects::Objects;
use rest::Markers;
use rng::Rng;
use side::{Side, WIRES, lane};
use static_names::Statics;
use wire::{Frame, Outputs, Wire};
use writer::Writer;

/// Frames that are sent at once.
const BATCH: usize = 250;
/// Batches of a round for each interface.
const BATCHES: usize = 5;
/// MTUs that rounds have by turns: above all that is sent, the usual one, and one that many answers exceed.
const MTUS: [usize; 3] = [9000, 1500, 700];
/// Outcome of queries that pass since no heartbeat came in time, which a busy machine may bring about at any moment.
const NO_HEARTBEAT: &str = "pass_daemon";
/// IPv4 packets of more octets have a random ID in replies (RFC 6864 §4.1: they may be fragmented).
const RANDOM_ID_ABOVE: usize = 576;

#[derive(Default)]
struct Tally {
    sent: usize,
    answered: usize,
    passed: usize,
    /// Batches that differed while a heartbeat was missing, and agreed when sent again.
    silent: usize,
}

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
    // Else frames of one batch might overtake each other.
    let mut one = CpuSet::new();
    one.set(0).expect("a processor");
    sched_setaffinity(Pid::from_raw(0), &one).expect("a processor");

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
    for i in 0..WIRES {
        let [before, after] = [0, 1].map(|side| sides[side].counters(i));
        println!("{}:", lane(i));
        for (outcome, count) in &after {
            println!("  {outcome:<50} {:>9} {count:>9}", before.get(outcome).unwrap_or(&0));
        }
    }
    // Else little was compared.
    assert!(tally.answered * 4 > tally.sent && tally.passed * 4 > tally.sent, "{}", tally.text());
    assert!(tally.silent * BATCH * 20 <= tally.sent, "{}", tally.text());
}

impl Tally {
    fn text(&self) -> String {
        let lost = self.sent - self.answered - self.passed;
        format!(
            "{} frames, {} answered, {} passed, {lost} taken by the kernel, {} batches without heartbeat",
            self.sent, self.answered, self.passed, self.silent
        )
    }
}

/// Compiles clock.c.
fn clock(cluster: &Cluster) -> PathBuf {
    let library = cluster.lab.path("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agreement/clock.c");
    run(Command::new("gcc").args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).arg("-ldl"));
    library
}

/// Sends the frames of a round to one interface of both, and compares what comes out and what is counted.
fn send(what: &str, sides: &[Side; 2], i: usize, tally: &mut Tally, mut random: impl FnMut() -> Frame) {
    let counters = || sides.each_ref().map(|side| side.counters(i));
    let (start, mut is_silent) = (counters(), false);
    for _ in 0..BATCHES {
        let batch: Vec<Frame> = std::iter::repeat_with(&mut random).take(BATCH).collect();
        let outputs = exchange(sides, i, &batch);
        let difference = difference(&sides[1].wires[i], &batch, &outputs);
        tally.sent += batch.len();
        tally.answered += outputs[1].replies.len();
        tally.passed += outputs[1].passed.len();
        let Some(difference) = difference else { continue };
        for frame in &batch {
            let alone = exchange(sides, i, std::slice::from_ref(frame));
            if let Some(difference) = self::difference(&sides[1].wires[i], std::slice::from_ref(frame), &alone) {
                panic!("{what}: {difference}\n{}", report(sides, frame, &alone));
            }
        }
        let moved = moved(&start, &counters());
        let is_unheard = moved.iter().any(|counts| counts.keys().any(|outcome| outcome.contains(NO_HEARTBEAT)));
        assert!(is_unheard, "{what}: {difference}, but only in a batch:\n{}", batch_report(sides, &batch, &outputs));
        is_silent = true;
        tally.silent += 1;
    }
    let [before, after] = moved(&start, &counters());
    let unheard = [&before, &after].iter().any(|counts| counts.keys().any(|outcome| outcome.contains(NO_HEARTBEAT)));
    assert!(before == after || unheard || is_silent, "{what}: counters moved by\n{before:#?}\nand by\n{after:#?}");
}

/// Sends a batch to both.
fn exchange(sides: &[Side; 2], i: usize, batch: &[Frame]) -> [Outputs; 2] {
    sides.each_ref().map(|side| {
        let wire = &side.wires[i];
        let mut outputs = wire.exchange(batch);
        let link_layer = if matches!(wire, Wire::Ethernet { .. }) { ETHERNET } else { 0 };
        outputs.replies.iter_mut().for_each(|reply| mask_id(&mut reply.octets, link_layer));
        outputs
    })
}

/// In what both differ, or what the program did to a frame that passed.
fn difference(wire: &Wire, batch: &[Frame], [before, after]: &[Outputs; 2]) -> Option<String> {
    if before.refused != after.refused {
        return Some("the kernel took other frames".to_owned());
    }
    if before.replies != after.replies {
        return Some(format!("{} and {} replies, which differ", before.replies.len(), after.replies.len()));
    }
    if before.passed != after.passed {
        return Some(format!("{} and {} frames passed, which differ", before.passed.len(), after.passed.len()));
    }
    let mut sent = batch.iter().map(|frame| wire.sent(frame));
    let unchanged = |passed: &Received| sent.any(|octets| octets == passed.octets);
    if !after.passed.iter().all(unchanged) {
        return Some("a frame passed changed".to_owned());
    }
    let gone = after.refused.len() + after.replies.len() + after.passed.len();
    (gone > batch.len()).then(|| format!("{gone} frames came out of {}", batch.len()))
}

/// How many more each has counted, by outcome.
fn moved(start: &[BTreeMap<String, u64>; 2], end: &[BTreeMap<String, u64>; 2]) -> [BTreeMap<String, u64>; 2] {
    [0, 1].map(|side| {
        let moved = end[side].iter().map(|(k, n)| (k.clone(), n - start[side].get(k).unwrap_or(&0)));
        moved.filter(|(_, n)| *n > 0).collect()
    })
}

/// Sets the ID of an IPv4 reply that is large enough to be fragmented to zero, and the header's checksum to what it then is (RFC 1624).
fn mask_id(reply: &mut [u8], link_layer: usize) {
    let mut ip = link_layer;
    if link_layer > 0 {
        while matches!(reply.get(ip - 2..ip), Some([0x81, 0] | [0x88, 0xa8])) {
            ip += 4;
        }
        if reply.get(ip - 2..ip) != Some(&[8, 0]) {
            return;
        }
    }
    let Some(header) = reply.get_mut(ip..ip + IPV4).filter(|header| header[0] == 0x45) else { return };
    let word = |header: &[u8], at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if usize::from(word(header, 2)) <= RANDOM_ID_ABOVE {
        return;
    }
    let sum = common::packet::sum(&[&(!word(header, 10)).to_be_bytes(), &(!word(header, 4)).to_be_bytes()]);
    // In one's complement both are zero.
    let check = if sum == 0xffff { 0 } else { !sum };
    header[4..6].fill(0);
    header[10..12].copy_from_slice(&check.to_be_bytes());
}

/// A frame and what both did with it.
fn report(sides: &[Side; 2], frame: &Frame, outputs: &[Outputs; 2]) -> String {
    let mut text = format!("sent (virtio_net_hdr {:02x?})\n{}", frame.offload, hex(&frame.octets));
    for (side, outputs) in sides.iter().zip(outputs) {
        let all = [("replied", &outputs.replies), ("passed", &outputs.passed)];
        let all: Vec<_> = all.iter().flat_map(|(what, of)| of.iter().map(move |o| (*what, o))).collect();
        for (what, received) in &all {
            let pending = if received.sum_pending { ", checksum not finished" } else { "" };
            text += &format!("{}: {what}{pending}\n{}", side.name, hex(&received.octets));
        }
        if all.is_empty() {
            text += &format!("{}: nothing came out\n", side.name);
        }
    }
    text
}

/// The first outputs of a batch that differ.
fn batch_report(sides: &[Side; 2], batch: &[Frame], [before, after]: &[Outputs; 2]) -> String {
    let first = |before: &[Received], after: &[Received]| {
        let at = before.iter().zip(after).position(|(a, b)| a != b).unwrap_or(before.len().min(after.len()));
        let show = |of: &[Received]| of.get(at).map_or_else(|| "none\n".to_owned(), |o| hex(&o.octets));
        format!("{}:\n{}{}:\n{}", sides[0].name, show(before), sides[1].name, show(after))
    };
    format!(
        "of {} frames, first replies that differ\n{}first passed frames that differ\n{}",
        batch.len(),
        first(&before.replies, &after.replies),
        first(&before.passed, &after.passed)
    )
}
