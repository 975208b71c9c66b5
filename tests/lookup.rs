//! The reference lookup (`edns::zone::lookup`) against the program in the kernel: random nodes come and go in both, and every
//! query gets the same outcome and the same records from both.
//!
//! EDNS_LOOKUPS is the number of queries; EDNS_LOOKUP_SEED repeats a run.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use common::decode::{self, Asked, Datagram};
use common::env_number;
use common::model::{OWNER, absence, addresses, agrees, node, record};
use common::outcome_name;
use common::packet::{ETHERNET, Packet, Query, TYPE_A, TYPE_AAAA, TYPE_TXT, hex, wire};
use common::rng::Rng;
use edns::datapath::{Gate, Program, TestRun};
use edns::zone::lookup::{Nodes, Pass};
use edns::zone::name::Name;
use edns::zone::node::{ANY_TYPE, Answer, AnswerKind, Node, Verdict, ZoneId};

/// Only four labels: names often have ancestors, siblings and children with a node, and wildcards among them.
const LABELS: [&[u8]; 4] = [b"a", b"bb", b"c", b"*"];
/// Labels of the longest names: more than the 16 ancestors that the program looks up.
const LABELS_MAX: usize = 40;
const NAMES_MAX: usize = 60;
const QUERIES_PER_ROUND: u64 = 100;

fn random_name(rng: &mut Rng) -> Name {
    let labels = if rng.one_in(4) { rng.below(LABELS_MAX) } else { rng.below(6) };
    let mut wire = Vec::new();
    for _ in 0..labels {
        // Mostly the same label, so that long names have common ancestors.
        let label = if rng.one_in(3) { *rng.pick(&LABELS) } else { LABELS[0] };
        wire.push(label.len() as u8);
        wire.extend(label);
    }
    wire.extend(if rng.one_in(4) { &b"\x04arpa\0"[..] } else { b"\0" });
    Name::from_wire(&wire).expect("short labels")
}

/// A name that has a node, a name below or above it, or a random one.
fn random_query(rng: &mut Rng, nodes: &Nodes) -> Name {
    let mut names: Vec<&Name> = nodes.all().keys().collect();
    names.sort_unstable();
    if names.is_empty() || rng.one_in(4) {
        return random_name(rng);
    }
    let name = *rng.pick(&names);
    match rng.below(3) {
        0 => name.clone(),
        1 => name.parent().unwrap_or_else(Name::root),
        _ => {
            let mut wire = Vec::new();
            for _ in 0..1 + rng.below(3) * rng.below(9) {
                let label = *rng.pick(&LABELS);
                wire.push(label.len() as u8);
                wire.extend(label);
            }
            Name::from_wire(&[&wire, name.wire()].concat()).unwrap_or_else(|| name.clone())
        }
    }
}

/// Nodes whose answers differ from each other's.
struct Maker {
    rng: Rng,
    made: u32,
}

impl Maker {
    fn verdict(&mut self, qtype: u16) -> Verdict {
        self.made += 1;
        let number = self.made;
        let answer = match (self.rng.below(6), qtype) {
            (0, _) => return Verdict::Pass,
            (1, _) => absence(AnswerKind::Nxdomain, &wire("zone.example")),
            (2.., TYPE_A) => addresses(&[Ipv4Addr::from(number)], 30),
            (2.., TYPE_AAAA) => addresses(&[Ipv6Addr::from(u128::from(number))], 30),
            (2.., TYPE_TXT) => {
                let text = [&[4][..], &number.to_be_bytes()].concat();
                let bytes = record(&OWNER, TYPE_TXT, 30, &text).into();
                Answer { kind: AnswerKind::Answer, counts: [1, 0, 0], rotation: None, bytes }
            }
            _ => absence(AnswerKind::Nodata, &OWNER),
        };
        Verdict::Answer(answer)
    }

    /// A node of some types and without others to refer to.
    fn plain(&mut self) -> Node {
        let mut types: Vec<(u16, Verdict)> = Vec::new();
        for qtype in [TYPE_A, TYPE_AAAA, TYPE_TXT, ANY_TYPE] {
            if self.rng.one_in(3) {
                types.push((qtype, self.verdict(qtype)));
            }
        }
        let zone = if self.rng.one_in(2) { ZoneId::Static } else { ZoneId::Cluster };
        Node { types, zone, ..node(Vec::new()) }
    }

    fn with_fallback(&mut self) -> Node {
        let fallback = self.rng.one_in(2).then(|| Arc::new(self.plain()));
        Node { fallback, ..self.plain() }
    }

    fn node(&mut self) -> Node {
        let child = self.rng.one_in(2).then(|| Arc::new(self.with_fallback()));
        let deep = self.rng.one_in(2).then(|| Arc::new(self.with_fallback()));
        Node { child, deep, ..self.with_fallback() }
    }
}

/// The outcome of a query by the reference, and its answer; `gated`: negative answers of the cluster are held back.
fn expected<'a>(nodes: &'a Nodes, name: &Name, qtype: u16, gated: bool) -> (&'static str, Option<&'a Answer>) {
    match nodes.look_up(name, qtype) {
        Err(Pass::NotFound) => ("pass_not_found", None),
        Err(Pass::Name) => ("pass_name", None),
        Err(Pass::Qtype) => ("pass_qtype", None),
        Ok(found) if gated && found.is_negative && found.zone == ZoneId::Cluster => ("pass_stale", None),
        Ok(found) => {
            let outcome = match found.answer.kind {
                AnswerKind::Answer => "answered",
                AnswerKind::Nodata => "nodata",
                AnswerKind::Nxdomain => "nxdomain",
            };
            (outcome, Some(found.answer))
        }
    }
}

/// The outcome by the program. An error if its reply differs from `answer`.
fn ask(probe: &TestRun, name: &Name, qtype: u16, upper: bool, answer: Option<&Answer>) -> Result<&'static str, String> {
    let qname = if upper { name.wire().to_ascii_uppercase() } else { name.wire().to_vec() };
    let frame = Packet::v4(&Query::of_wire(qname, qtype)).frame();
    let mut out = vec![0; 2048];
    let (outcome, len) = probe.run(&frame, &mut out).map_err(|e| e.to_string())?;
    let outcome = outcome_name(outcome).ok_or("no outcome")?;
    if let Some(answer) = answer.filter(|_| !outcome.starts_with("pass_")) {
        let check = || {
            let reply = decode::reply(&frame, &out[..len], ETHERNET)?;
            agrees(&reply, &Asked::read(&Datagram::read(&frame, ETHERNET)?)?, answer)
        };
        check().map_err(|e| format!("{e}\n{}\n{}", hex(&frame), hex(&out[..len])))?;
    }
    Ok(outcome)
}

#[test]
fn the_program_gives_what_the_reference_gives() {
    let queries = env_number("EDNS_LOOKUPS", 100_000);
    let default_seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos();
    let seed = env_number("EDNS_LOOKUP_SEED", default_seed as u64);
    eprintln!("EDNS_LOOKUP_SEED={seed}");
    let (datapath, mut table) = common::load(false, 4096);
    let probe = datapath.test_run(Program::Probe).expect("test run");
    let (mut rng, mut nodes) = (Rng::new(seed), Nodes::default());
    let mut maker = Maker { rng: Rng::new(seed.wrapping_add(1)), made: 0 };
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..queries.div_ceil(QUERIES_PER_ROUND) {
        for _ in 0..1 + rng.below(8) {
            let name = random_name(&mut rng);
            let is_full = nodes.all().len() >= NAMES_MAX;
            if is_full || rng.one_in(4) {
                let mut names: Vec<&Name> = nodes.all().keys().collect();
                names.sort_unstable();
                let name = if names.is_empty() { name } else { (*rng.pick(&names)).clone() };
                assert_eq!(table.remove(&name), nodes.all().contains_key(&name), "{name}");
                nodes.remove(&name);
            } else {
                let node = maker.node();
                table.put(&name, &node).unwrap_or_else(|e| panic!("{name}: {e}"));
                nodes.put(name, node);
            }
        }
        // Until the next grace period, the program may start at the depth of names that are gone.
        assert!(table.settle(), "a grace period");
        let gated = round % 2 == 1;
        datapath.settings().set_negative_gate(ZoneId::Cluster, if gated { Gate::Stale } else { Gate::Open });
        for _ in 0..QUERIES_PER_ROUND {
            let name = random_query(&mut rng, &nodes);
            let qtype = *rng.pick(&[TYPE_A, TYPE_AAAA, TYPE_TXT, 99]);
            let (outcome, answer) = expected(&nodes, &name, qtype, gated);
            let got = ask(&probe, &name, qtype, rng.one_in(4), answer);
            assert_eq!(got.as_deref(), Ok(outcome), "EDNS_LOOKUP_SEED={seed}, round {round}: {name} {qtype}");
            *seen.entry(outcome).or_insert(0) += 1;
        }
    }
    eprintln!("{seen:?}");
    // Enough of each outcome that a difference would show.
    assert!(seen.len() == 7 && seen.values().all(|n| *n > queries / 200), "{seen:?}");
}
