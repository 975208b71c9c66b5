//! What both do with the same frames, and in what that differs.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use crate::common::packet::{ETHERNET, IPV4, hex, sum};
use crate::common::raw::Received;
use crate::side::Side;
use crate::wire::{Frame, Outputs, Wire};

/// Frames that are sent at once.
pub const BATCH: usize = 250;
/// Batches of a round for each interface.
const BATCHES: usize = 5;
/// How often a single frame that differs is sent, and the time between.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// Outcome of queries that pass since no heartbeat came in time, which a busy machine may bring about at any moment.
const NO_HEARTBEAT: &str = "pass_daemon";
/// IPv4 packets of more octets have a random ID in replies (RFC 6864 §4.1: they may be fragmented).
const RANDOM_ID_ABOVE: usize = 576;

/// What was compared so far.
#[derive(Default)]
pub struct Tally {
    pub sent: usize,
    pub answered: usize,
    pub passed: usize,
    /// Batches that differed while a heartbeat was missing, and agreed when sent again.
    pub silent: usize,
    /// What each side has counted, by outcome and family.
    pub counted: [BTreeMap<String, u64>; 2],
}

impl Tally {
    pub fn text(&self) -> String {
        let lost = self.sent - self.answered - self.passed;
        format!(
            "{} frames, {} answered, {} passed, {lost} taken by the kernel, {} batches without heartbeat",
            self.sent, self.answered, self.passed, self.silent
        )
    }
}

/// Sends the frames of a round to one interface of both, and compares what comes out and what is counted.
pub fn send(what: &str, sides: &[Side; 2], i: usize, tally: &mut Tally, mut random: impl FnMut() -> Frame) {
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
            if let Some((difference, outputs)) = alone(sides, i, frame) {
                panic!("{what}: {difference}\n{}", report(sides, frame, &outputs));
            }
        }
        assert!(
            lacks_heartbeat(&moved(&start, &counters())),
            "{what}: {difference}, but only in a batch:\n{}",
            batch_report(sides, &batch, &outputs)
        );
        is_silent = true;
        tally.silent += 1;
    }
    let moved = moved(&start, &counters());
    let is_silent = is_silent || lacks_heartbeat(&moved);
    let [before, after] = moved;
    assert!(before == after || is_silent, "{what}: counters moved by\n{before:#?}\nand by\n{after:#?}");
    for (counted, moved) in tally.counted.iter_mut().zip([before, after]) {
        moved.into_iter().for_each(|(outcome, count)| *counted.entry(outcome).or_default() += count);
    }
}

/// Sends one frame of a batch that differed. A difference counts when it lasts longer than a missing heartbeat.
fn alone(sides: &[Side; 2], i: usize, frame: &Frame) -> Option<(String, [Outputs; 2])> {
    let batch = std::slice::from_ref(frame);
    let mut last = None;
    for _ in 0..TRIES {
        let outputs = exchange(sides, i, batch);
        last = Some((difference(&sides[1].wires[i], batch, &outputs)?, outputs));
        sleep(PAUSE);
    }
    last
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

/// Whether a query passed since a heartbeat was missing.
fn lacks_heartbeat(counted: &[BTreeMap<String, u64>; 2]) -> bool {
    counted.iter().any(|counts| counts.keys().any(|outcome| outcome.contains(NO_HEARTBEAT)))
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
    let folded = sum(&[&(!word(header, 10)).to_be_bytes(), &(!word(header, 4)).to_be_bytes()]);
    // In one's complement both are zero.
    let check = if folded == 0xffff { 0 } else { !folded };
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
            let pending = if received.checksum_pending { ", checksum not finished" } else { "" };
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
