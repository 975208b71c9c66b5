//! The memory of nodes. After any changes it is little more than what nodes use, and every name keeps its answer, also while
//! its node moves.

mod common;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use common::decode;
use common::env_number;
use common::model::{absence, addresses, node};
use common::outcome_name;
use common::packet::{ETHERNET, Opt, Packet, Query, TYPE_A, TYPE_AAAA};
use common::rng::Rng;
use edns::datapath::{Datapath, Program, Put, Table, TestRun};
use edns::zone::name::Name;
use edns::zone::node::{ANY_TYPE, AnswerKind, Node};

/// Values of `src/bpf/abi.h`: octets of a unit, octets of a chunk of nodes, and octets that the chunk's map takes.
const UNIT: usize = 64;
const CHUNK: usize = 2 << 20;
const CHUNK_MAP: usize = CHUNK + (24 << 10);

/// Held by tests that take very much memory or measure the memory of this process.
static LARGE: Mutex<()> = Mutex::new(());

/// A table of numbered names. The answer of each name depends on its version.
struct Zone {
    table: Table,
    probe: TestRun,
    /// Octets of the index, which is allocated at the start.
    index: usize,
    /// The version of each name; None if the name doesn't exist.
    versions: Vec<Option<u32>>,
    _datapath: Datapath,
}

const RECORDS_MAX: u32 = 70;

/// How many records a version has: few in most versions.
fn records(version: u32) -> u32 {
    let number = version.wrapping_mul(0x9e37_79b9) >> 7;
    if number.is_multiple_of(4) { 1 + number / 4 % RECORDS_MAX } else { 1 + number / 4 % 5 }
}

fn address(number: usize, version: u32, record: u32) -> Ipv4Addr {
    Ipv4Addr::from((number as u32).wrapping_mul(31) ^ version << 8 ^ record)
}

fn domain(number: usize) -> String {
    format!("n{number}.arena.example.org")
}

fn name(number: usize) -> Name {
    Name::parse(&domain(number)).expect("a name")
}

fn version_node(number: usize, version: u32, fallback: &Arc<Node>) -> Node {
    let of: Vec<_> = (0..records(version)).map(|i| address(number, version, i)).collect();
    Node { fallback: Some(Arc::clone(fallback)), ..node(vec![(TYPE_A, addresses(&of, 30))]) }
}

impl Zone {
    fn new(names: usize) -> Self {
        let (datapath, table) = common::load(false, names as u32);
        let probe = datapath.test_run(Program::Probe).expect("test run");
        Self { index: table.memory() - CHUNK_MAP, table, probe, versions: vec![None; names], _datapath: datapath }
    }

    fn put(&mut self, number: usize, version: u32, fallback: &Arc<Node>) {
        let put = self.table.put(&name(number), &version_node(number, version, fallback)).expect("fits");
        let old = self.versions[number].replace(version);
        assert_eq!(put, if old.is_some() { Put::Changed } else { Put::Added });
        self.assert_bound();
    }

    fn remove(&mut self, number: usize) {
        assert!(self.table.remove(&name(number)));
        self.versions[number] = None;
        self.assert_bound();
    }

    fn chunks(&self) -> usize {
        (self.table.memory() - self.index) / CHUNK_MAP
    }

    fn assert_bound(&self) {
        let used = self.table.units() * UNIT;
        assert!(self.chunks() * CHUNK <= used + used / 2 + 2 * CHUNK, "{} chunks for {used} octets", self.chunks());
    }

    /// Sends a query for a name to the program and checks the answer.
    fn assert_answer(&self, number: usize) {
        let frame = Packet::v4(&Query::new(&domain(number), TYPE_A).edns(&Opt::new(1232))).frame();
        let mut out = vec![0; 2048];
        let (outcome, len) = self.probe.run(&frame, &mut out).expect("test run");
        let Some(version) = self.versions[number] else {
            assert_eq!(outcome_name(outcome), Some("pass_not_found"), "{number}");
            return;
        };
        assert_eq!(outcome_name(outcome), Some("answered"), "{number}, version {version}");
        let reply = decode::reply(&frame, &out[..len], ETHERNET).unwrap_or_else(|e| panic!("{number}: {e}"));
        let mut got: Vec<_> = reply.sections[0].iter().map(|r| r.rdata.clone()).collect();
        let mut wanted: Vec<_> = (0..records(version)).map(|i| address(number, version, i).octets().to_vec()).collect();
        got.sort();
        wanted.sort();
        assert_eq!(got, wanted, "{number}, version {version}");
    }

    /// Checks the answers of all names and the names that the table lists.
    fn assert_all(&self) {
        (0..self.versions.len()).for_each(|number| self.assert_answer(number));
        let mut names: Vec<Name> = self.table.reader().names(0, usize::MAX).into_iter().flatten().collect();
        let mut wanted: Vec<Name> =
            (0..self.versions.len()).filter(|n| self.versions[*n].is_some()).map(name).collect();
        names.sort();
        wanted.sort();
        assert_eq!(names, wanted);
    }
}

/// The negative answer for types that a name lacks; many names share it.
fn nodata() -> Arc<Node> {
    Arc::new(node(vec![(ANY_TYPE, absence(AnswerKind::Nodata, &common::model::OWNER))]))
}

#[test]
fn memory_follows_the_size_of_the_nodes_in_use_after_any_changes() {
    const NAMES: usize = 80_000;
    let changes = env_number("EDNS_ARENA_CHANGES", 1_000_000);
    let mut zone = Zone::new(NAMES);
    let mut rng = Rng::new(13);
    let fallback = nodata();
    // Alternates between a full table and one of a fiftieth of the names.
    let (mut there, mut most) = (0, 0);
    for change in 0..changes as u32 {
        let target = if change / 200_000 % 2 == 0 { NAMES } else { NAMES / 50 };
        let number = rng.below(NAMES);
        match zone.versions[number] {
            Some(_) if there > target || rng.one_in(4) => {
                zone.remove(number);
                there -= 1;
            }
            None if there > target && !rng.one_in(50) => {}
            old => {
                zone.put(number, change, &fallback);
                there += usize::from(old.is_none());
            }
        }
        most = most.max(zone.chunks());
        if change % 8 == 0 {
            zone.assert_answer(rng.below(NAMES));
        }
    }
    zone.assert_all();
    assert!(most >= 8, "only {most} chunks");
}

/// The one name in fifty that stays would keep its chunk in use if it didn't move.
#[test]
fn names_that_stay_hold_no_memory_of_removed_names() {
    const NAMES: usize = 250_000;
    let mut zone = Zone::new(NAMES);
    let fallback = nodata();
    // Versions with few records, and versions with many.
    let of = |wanted: fn(u32) -> bool| (0..).filter(move |v| wanted(records(*v)));
    for (number, version) in of(|n| n <= 3).take(NAMES).enumerate() {
        zone.put(number, version, &fallback);
    }
    let full = zone.chunks();
    let goes = |number: &usize| !number.is_multiple_of(50);
    let waits = zone.table.waits();
    (0..NAMES).filter(goes).for_each(|number| zone.remove(number));
    let (left, waits) = (zone.chunks(), zone.table.waits() - waits);
    // One wait for each eighth of the remaining names that goes; 33 waits leave a fiftieth of the names.
    assert!(waits <= 40, "{waits} waits");
    assert!(left <= 2 && full > 6 * left, "{full} chunks, {left} of them left for one name in fifty");
    zone.assert_all();
    for (number, version) in (0..NAMES).filter(goes).zip(of(|n| n > 3 && n < 12)) {
        zone.put(number, version, &fallback);
    }
    zone.assert_all();
    (0..NAMES).for_each(|number| zone.remove(number));
    assert!(zone.chunks() <= 2);
    zone.assert_all();
}

/// The peak memory in MiB of this process since the last reset.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).expect("a peak");
    peak.parse::<usize>().expect("a number") >> 10
}

/// If the holes of smaller nodes fit none of the larger nodes, these move to new chunks, once.
#[test]
fn nodes_that_fit_no_hole_move_once() {
    const NAMES: usize = 40_000;
    let mut zone = Zone::new(NAMES);
    let fallback = nodata();
    let mut versions = [60, 57].map(|wanted| (0..).filter(move |v| records(*v) == wanted));
    for number in 0..NAMES {
        let version = versions[number % 2].next().expect("an endless sequence");
        zone.put(number, version, &fallback);
    }
    let full = zone.chunks();
    // Other tests run at the same time; they take less memory than this test looks for.
    let _alone = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
    std::fs::write("/proc/self/clear_refs", "5").expect("root");
    let before = peak();
    // One name more than every second one: its chunk has the least in use and is the first to be emptied.
    zone.remove(0);
    (1..NAMES).step_by(2).for_each(|number| zone.remove(number));
    let grown = peak() - before;
    assert!(full >= 20 && grown < 500, "{full} chunks, and {grown} MiB more while nodes moved");
    zone.assert_all();
}

/// Nodes that other nodes refer to don't move. They have chunks of their own, so that they don't hold chunks of named nodes.
#[test]
fn nodes_that_others_refer_to_have_chunks_of_their_own() {
    const NAMES: usize = 60_000;
    let mut zone = Zone::new(NAMES);
    let fallback = |number: usize| {
        let address = Ipv4Addr::from(number as u32).to_ipv6_mapped();
        Arc::new(node(vec![(TYPE_AAAA, addresses(&[address], 30))]))
    };
    let large: Vec<u32> = (0..).filter(|v| records(*v) > 30).take(NAMES).collect();
    // The bound doesn't hold for shared nodes.
    let put = |zone: &mut Zone, number: usize| {
        let node = version_node(number, large[number], &fallback(number));
        zone.table.put(&name(number), &node).expect("fits");
        zone.versions[number] = Some(large[number]);
    };
    let remove = |zone: &mut Zone, number: usize| {
        assert!(zone.table.remove(&name(number)));
        zone.versions[number] = None;
    };
    (0..NAMES).for_each(|number| put(&mut zone, number));
    let full = zone.chunks();
    let goes = |number: &usize| !number.is_multiple_of(1000);
    (0..NAMES).filter(goes).for_each(|number| remove(&mut zone, number));
    let left = zone.chunks();
    assert!(left * 3 < full, "{left} of {full} chunks are left");
    zone.assert_all();
    (0..NAMES).filter(goes).for_each(|number| put(&mut zone, number));
    zone.assert_all();
    assert!(zone.chunks() <= full + 2, "{} chunks and {full} before", zone.chunks());
    (0..NAMES).for_each(|number| remove(&mut zone, number));
    assert!(zone.chunks() * 3 < full, "{} of {full} chunks are left without a name", zone.chunks());
}

/// A node that doesn't fit is refused at once, because waiting would free nothing. Existing names still change, and removed
/// names make room.
#[test]
fn a_full_arena_refuses_without_a_wait() {
    let _alone = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
    const NAMES: usize = 400_000;
    let (_datapath, mut table) = common::load(false, NAMES as u32);
    let v4: Vec<_> = (0..RECORDS_MAX).map(|i| address(0, 0, i)).collect();
    let v6: Vec<_> = v4[..40].iter().map(Ipv4Addr::to_ipv6_mapped).collect();
    let large = node(vec![(TYPE_A, addresses(&v4, 30)), (TYPE_AAAA, addresses(&v6, 30))]);
    let other = node(vec![(TYPE_A, addresses(&v4, 31)), (TYPE_AAAA, addresses(&v6, 31))]);
    let fits = (0..NAMES).take_while(|number| table.put(&name(*number), &large).is_ok()).count();
    let units = table.units();
    assert!(fits < NAMES && units <= Table::UNITS_MAX && units + 64 > Table::UNITS_MAX, "{fits} names, {units} units");
    let waits = table.waits();
    for number in fits..fits + 10_000 {
        let refused = table.put(&name(number), &large).expect_err("a full arena").to_string();
        assert!(refused.contains("768 MiB"), "{refused}");
    }
    assert_eq!(table.waits(), waits, "waited without freeing anything");
    for number in 0..10_000 {
        assert_eq!(table.put(&name(number), &other).expect("an existing name"), Put::Changed);
    }
    // One wait for each eighth of the existing names that changes.
    assert!(table.waits() <= waits + 1);
    (0..1000).for_each(|number| assert!(table.remove(&name(number))));
    for number in fits..fits + 1000 {
        assert_eq!(table.put(&name(number), &large).expect("room again"), Put::Added);
    }
}
