//! Answers while the zone changes as fast as it can. Each answer must be entirely of one version of its name, and of a
//! version that was current at some moment between query and answer. Nodes are replaced, grow, shrink, go and come back, so
//! their memory is reused again and again while programs read it.
//!
//! EDNS_STORM_ANSWERS sets the number of checked answers, EDNS_STORM_REKEYS how often the table changes its key meanwhile.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::attach::{Hook, attach};
use common::decode::{self, Asked, Record};
use common::lab::{Netns, veth};
use common::model::{addresses, node};
use common::packet::{ETHERNET, Opt, Packet, Query, TYPE_A, TYPE_AAAA, hex};
use common::rng::Rng;
use common::{Heart, TC_ACT_REDIRECT, env_number};
use edns::datapath::{HashKey, Program, Table, TestRun};
use edns::zone::name::Name;
use edns::zone::node::{Node, ZoneId};

/// Names that change. The number after them is the wildcard, which answers while a name doesn't exist.
const NAMES: usize = 255;
const WILDCARD: usize = NAMES;
const ZONE: &str = "storm.example.org";
/// Bits of the version in the address of an A record; the other bits number name and record. Versions wrap long after they
/// were current.
const VERSION_BITS: u32 = 18;
const RECORDS_MAX: usize = 64;
const BATCH: usize = 64;
/// Updates after which the table has all the memory that it needs.
const WARM_UP: u64 = 20_000;

/// The version of a name: the one that is being put, and the one that is known to be put.
#[derive(Default)]
struct Version {
    started: AtomicU64,
    done: AtomicU64,
}

/// A hash that decides the content of a version.
fn mixed(name: usize, version: u64) -> u64 {
    let mut rng = Rng::new((name as u64) << 40 ^ version);
    rng.next()
}

/// About every fifth version of most names is a removal.
fn is_gone(name: usize, version: u64) -> bool {
    name != WILDCARD && !name.is_multiple_of(4) && mixed(name, version).is_multiple_of(5)
}

/// The number of records of each type. Few in most versions, so that the position of a record says little about its node.
fn records(name: usize, version: u64) -> usize {
    let number = (mixed(name, version) >> 32) as usize;
    if number.is_multiple_of(16) { 1 + number / 16 % RECORDS_MAX } else { 1 + number / 16 % 6 }
}

fn v4(name: usize, version: u64, record: usize) -> Ipv4Addr {
    let version = version as u32 % (1 << VERSION_BITS);
    Ipv4Addr::from((name as u32) << 24 | version << 6 | record as u32)
}

fn v6(name: usize, version: u64, record: usize) -> Ipv6Addr {
    Ipv6Addr::from((name as u128) << 96 | u128::from(version) << 32 | record as u128)
}

fn version_node(name: usize, version: u64) -> Node {
    let count = records(name, version);
    let v4: Vec<_> = (0..count).map(|i| v4(name, version, i)).collect();
    let v6: Vec<_> = (0..count.min(40)).map(|i| v6(name, version, i)).collect();
    node(vec![(TYPE_A, addresses(&v4, 30)), (TYPE_AAAA, addresses(&v6, 30))])
}

fn domain(name: usize) -> String {
    format!("n{name}.{ZONE}")
}

fn put_version(table: &mut Table, name: usize, version: u64) {
    if name == WILDCARD {
        let below = Arc::new(version_node(name, version));
        let encloser = Node { child: Some(below), ..Node::pass(ZoneId::Static) };
        table.put(&Name::parse(ZONE).expect("a name"), &encloser).expect("fits");
    } else if is_gone(name, version) {
        table.remove(&Name::parse(&domain(name)).expect("a name"));
    } else {
        table.put(&Name::parse(&domain(name)).expect("a name"), &version_node(name, version)).expect("fits");
    }
}

/// State that the writer and the readers share.
struct Storm {
    versions: Vec<Version>,
    /// Answers that are still to be checked.
    left: AtomicU64,
    over: AtomicBool,
}

/// Memory of the table after the warm-up and at the end, and the number of updates.
struct Written {
    updates: u64,
    octets: u64,
    memory: [usize; 2],
}

impl Storm {
    fn update(&self, table: &mut Table, name: usize) {
        let versions = &self.versions[name];
        let version = versions.started.load(Ordering::Relaxed) + 1;
        versions.started.store(version, Ordering::SeqCst);
        put_version(table, name, version);
        versions.done.store(version, Ordering::SeqCst);
    }

    fn write(&self, table: &mut Table) -> Written {
        let mut rng = Rng::new(1);
        let mut written = Written { updates: 0, octets: 0, memory: [0; 2] };
        while !self.over.load(Ordering::Relaxed) {
            // Some names change more often than others. The wildcard changes seldom: its answer for names below has to wait
            // for programs that may have missed a name, which would slow the other changes down.
            let name = match rng.below(2000) {
                0 => WILDCARD,
                1..800 => rng.below(8),
                _ => rng.below(NAMES),
            };
            self.update(table, name);
            written.updates += 1;
            let version = self.versions[name].done.load(Ordering::Relaxed);
            // At least the records of both types and a header each.
            let count = records(name, version) as u64;
            written.octets += if is_gone(name, version) { 0 } else { count * 16 + count.min(40) * 28 + 64 };
            if written.updates == WARM_UP {
                written.memory[0] = table.memory();
            }
        }
        written.memory[1] = table.memory();
        written
    }

    /// Changes the key as often as grace periods allow, with some updates in between. Returns how many keys there were.
    fn rekey(&self, table: &mut Table, keys: u64) -> u64 {
        let mut rng = Rng::new(2);
        for done in 0..keys {
            if self.over.load(Ordering::Relaxed) {
                return done;
            }
            assert!(table.rekey(HashKey::random()), "so few names fit with any key");
            for _ in 0..16 {
                self.update(table, rng.below(NAMES));
            }
        }
        keys
    }

    /// The versions of a name and of the wildcard that are known to be put: later queries get these or newer ones.
    fn known(&self, name: usize) -> [u64; 2] {
        [name, WILDCARD].map(|n| self.versions[n].done.load(Ordering::SeqCst))
    }

    /// Checks the answer to a query that was sent when `before` was known.
    fn check(&self, name: usize, before: [u64; 2], answers: &[Record]) -> Result<(), String> {
        let [own, wild] = [(name, before[0]), (WILDCARD, before[1])]
            .map(|(n, from)| from..=self.versions[n].started.load(Ordering::SeqCst));
        let first = answers.first().ok_or("no records")?;
        let from_wildcard = match *first.rdata {
            [n, ..] if first.rtype == TYPE_A => usize::from(n) == WILDCARD,
            [.., _, _, _, _] => first.rdata[..4] == (WILDCARD as u32).to_be_bytes(),
            _ => return Err("no address".into()),
        };
        if from_wildcard && !own.clone().any(|v| is_gone(name, v)) {
            return Err(format!("the wildcard's, but the name existed in all versions {own:?}"));
        }
        let (source, range) = if from_wildcard { (WILDCARD, wild) } else { (name, own) };
        let whole = |version: u64| !is_gone(source, version) && is_whole(source, version, answers);
        if range.clone().any(whole) {
            return Ok(());
        }
        Err(format!("not wholly one of the versions {range:?} of name {source}"))
    }

    /// False if enough answers were checked.
    fn take(&self, n: u64) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(n)).is_ok()
    }
}

/// Whether these are all the records of a version, in any rotation.
fn is_whole(name: usize, version: u64, answers: &[Record]) -> bool {
    let a = answers[0].rtype == TYPE_A;
    let count = if a { records(name, version) } else { records(name, version).min(40) };
    let octets =
        |i: usize| if a { v4(name, version, i).octets().to_vec() } else { v6(name, version, i).octets().to_vec() };
    let Some(start) = (0..count).find(|i| answers[0].rdata == octets(*i)) else { return false };
    answers.len() == count && answers.iter().enumerate().all(|(i, r)| r.rdata == octets((start + i) % count))
}

fn query(rng: &mut Rng) -> (usize, Query) {
    let name = if rng.one_in(2) { rng.below(8) } else { rng.below(NAMES) };
    let mut query = Query::new(&domain(name), if rng.one_in(2) { TYPE_A } else { TYPE_AAAA }).edns(&Opt::new(1232));
    query.id = rng.next() as u16;
    (name, query)
}

fn by_test_run(storm: &Storm, program: &TestRun, seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let mut out = vec![0; 4096];
    let mut answers = 0;
    while storm.take(1) {
        let (name, query) = query(&mut rng);
        let frame = if rng.one_in(2) { Packet::v4(&query) } else { Packet::v6(&query) }.frame();
        let before = storm.known(name);
        let (verdict, len) = program.run(&frame, &mut out).expect("test run");
        assert_eq!(
            verdict,
            TC_ACT_REDIRECT,
            "name {name} passed, but it or the wildcard always exists\n{}",
            hex(&frame)
        );
        let checked = decode::reply(&frame, &out[..len], ETHERNET)
            .and_then(|reply| storm.check(name, before, &reply.sections[0]));
        checked.unwrap_or_else(|e| panic!("{e}\n{}\n{}", hex(&frame), hex(&out[..len])));
        answers += 1;
    }
    answers
}

/// Queries from a pod over a veth pair: the program runs in the soft interrupt of the network.
fn by_socket(storm: &Storm, pod: &Netns) -> u64 {
    let socket = pod.run(|| {
        let socket = UdpSocket::bind("10.77.0.2:0").expect("bind");
        socket.connect("10.77.0.1:53").expect("connect");
        socket
    });
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let mut rng = Rng::new(3);
    let mut reply = [0; 2048];
    let mut answers = 0;
    while storm.take(BATCH as u64) {
        for _ in 0..BATCH {
            let (name, query) = query(&mut rng);
            let sent = query.octets();
            let before = storm.known(name);
            socket.send(&sent).expect("send");
            let len = socket.recv(&mut reply).unwrap_or_else(|e| panic!("no answer for name {name}: {e}"));
            let asked = Asked::message(&sent).expect("a query");
            let checked =
                decode::message(&asked, &reply[..len]).and_then(|reply| storm.check(name, before, &reply.sections[0]));
            checked.unwrap_or_else(|e| panic!("{e}\n{}\n{}", hex(&sent), hex(&reply[..len])));
            answers += 1;
        }
    }
    answers
}

/// What readers saw during the writes.
struct Seen<T> {
    runs: u64,
    replies: u64,
    took: Duration,
    written: T,
}

/// Runs `write` on the table while readers query, until it ends or `wanted` answers were checked.
fn storm<T: Send>(wanted: u64, write: impl FnOnce(&Storm, &mut Table) -> T + Send) -> Seen<T> {
    let (datapath, mut table) = common::load(false, 4096);
    let (pod, host) = (Netns::quiet("pod"), Netns::quiet("host"));
    veth((&host, "p"), (&pod, "eth0"));
    host.ip("addr add 10.77.0.1/24 dev p");
    pod.ip("addr add 10.77.0.2/24 dev eth0");
    let _link = attach(datapath.program(Program::Ethernet).expect("a program"), &host, "p", Hook::Ingress);

    let storm = Storm {
        versions: (0..=NAMES).map(|_| Version::default()).collect(),
        left: AtomicU64::new(wanted),
        over: AtomicBool::new(false),
    };
    storm.update(&mut table, WILDCARD);
    for name in 0..NAMES {
        storm.update(&mut table, name);
    }
    let programs: Vec<_> = (0..2).map(|_| datapath.test_run(Program::Ethernet).expect("test run")).collect();
    let _heart = Heart::new(datapath);
    let started = Instant::now();
    std::thread::scope(|s| {
        let (storm, pod) = (&storm, &pod);
        let writer = s.spawn(|| write(storm, &mut table));
        let runners: Vec<_> = programs
            .iter()
            .zip(1..)
            .map(|(program, seed)| s.spawn(move || by_test_run(storm, program, seed)))
            .collect();
        let client = s.spawn(|| by_socket(storm, pod));
        while !(writer.is_finished() || client.is_finished() && runners.iter().all(|r| r.is_finished())) {
            // A failed reader ends the others.
            if client.is_finished() || runners.iter().any(|r| r.is_finished()) {
                storm.left.store(0, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        storm.over.store(true, Ordering::Relaxed);
        storm.left.store(0, Ordering::Relaxed);
        let runs = runners.into_iter().map(joined).sum();
        Seen { runs, replies: joined(client), written: joined(writer), took: started.elapsed() }
    })
}

#[test]
fn every_answer_is_of_one_version_that_was_current() {
    let wanted = env_number("EDNS_STORM_ANSWERS", 2_000_000);
    let Seen { runs, replies, took, written } = storm(wanted, Storm::write);
    eprintln!(
        "{runs} answers by test runs, {replies} by sockets, {} updates of {} MiB in {:.1} s; {:?} octets of maps",
        written.updates,
        written.octets >> 20,
        took.as_secs_f64(),
        written.memory
    );
    assert!(runs > wanted / 2 && replies > 0, "{runs} answers by test runs, {replies} by sockets of {wanted}");
    assert!(written.updates > 2 * WARM_UP, "{} updates", written.updates);
    // Memory was reused, and the writer wrote much more than it holds.
    assert_eq!(written.memory[0], written.memory[1], "memory grows");
    assert!(written.octets > 4 * written.memory[1] as u64, "{} octets written", written.octets);
}

#[test]
fn every_answer_is_correct_while_the_table_changes_its_key() {
    let wanted = env_number("EDNS_STORM_REKEYS", 1000);
    let Seen { runs, replies, took, written } = storm(u64::MAX, |storm, table| storm.rekey(table, wanted));
    eprintln!("{runs} answers by test runs, {replies} by sockets, {written} keys in {:.1} s", took.as_secs_f64());
    assert_eq!(written, wanted);
    assert!(runs > 10 * wanted && replies > wanted, "{runs} answers by test runs, {replies} by sockets");
}

/// Names are added until the table is full, and some are removed again. Every name in it is found at every moment, also while
/// the table grows, and no other name is.
#[test]
fn names_stay_while_the_table_grows() {
    const ROUNDS: u64 = 4;
    const MAX: u32 = 100_000;
    /// One in this many names is removed again, after this many others were added.
    const GOES: u32 = 5;
    const LATER: u32 = 100;
    let domain = |i: u32| format!("g{i}.{ZONE}");
    let name = |i: u32| Name::parse(&domain(i)).expect("a name");
    let address = |i: u32| Ipv4Addr::from(0x0a00_0000 + i);
    let goes = |i: u32| i.is_multiple_of(GOES);
    for round in 0..ROUNDS {
        let (datapath, mut table) = common::load(false, MAX);
        // All names below `added` exist, and none from `adding` on. A name to be removed no longer exists once LATER more are
        // added.
        let (adding, added) = (AtomicU64::new(0), AtomicU64::new(0));
        let full = AtomicBool::new(false);
        let read = |program: &TestRun, seed: u64| {
            let mut rng = Rng::new(seed);
            let mut out = vec![0; 2048];
            let mut answers = 0_u64;
            while !full.load(Ordering::Relaxed) {
                let there = added.load(Ordering::SeqCst) as u32;
                let i = if rng.one_in(2) {
                    there.saturating_sub(1 + rng.below(200) as u32)
                } else {
                    rng.below(MAX as usize * 2) as u32
                };
                let frame = Packet::v4(&Query::new(&domain(i), TYPE_A)).frame();
                let (verdict, len) = program.run(&frame, &mut out).expect("test run");
                let begun = adding.load(Ordering::SeqCst) as u32;
                let may_be_gone = goes(i) && i + LATER < begun;
                let may_be_there = i < begun && !(goes(i) && i + LATER < there);
                if verdict == TC_ACT_REDIRECT {
                    assert!(may_be_there, "name {i} of {there} to {begun} is found");
                    let reply = decode::reply(&frame, &out[..len], ETHERNET).unwrap_or_else(|e| panic!("{e}"));
                    assert_eq!(reply.sections[0][0].rdata, address(i).octets(), "name {i}");
                    answers += 1;
                } else {
                    assert!(i >= there || may_be_gone, "name {i} of {there} to {begun} is lost");
                }
            }
            answers
        };
        let programs: Vec<_> = (0..2).map(|_| datapath.test_run(Program::Ethernet).expect("test run")).collect();
        let _heart = Heart::new(datapath);
        let answers: u64 = std::thread::scope(|s| {
            let read = &read;
            let readers: Vec<_> =
                programs.iter().zip(0..).map(|(p, i)| s.spawn(move || read(p, round * 2 + i))).collect();
            for i in 0..MAX {
                adding.store(u64::from(i) + 1, Ordering::SeqCst);
                table.put(&name(i), &node(vec![(TYPE_A, addresses(&[address(i)], 30))])).expect("fits");
                if let Some(old) = i.checked_sub(LATER).filter(|old| goes(*old)) {
                    assert!(table.remove(&name(old)));
                }
                added.store(u64::from(i) + 1, Ordering::SeqCst);
                if readers.iter().any(|r| r.is_finished()) {
                    break;
                }
            }
            full.store(true, Ordering::Relaxed);
            readers.into_iter().map(joined).sum()
        });
        assert!(answers > 1000, "{answers} answers");
    }
}

/// A name and its wildcard. While the name exists the wildcard has an answer that no query for the name may ever get,
/// although the program looks the two up one after the other.
#[test]
fn no_answer_mixes_two_moments() {
    const FOR: Duration = Duration::from_secs(3);
    /// Independent of the machine's speed. In each round the name is away for some microseconds, which a program may miss for
    /// a long time.
    const ROUNDS: usize = 20;
    const PATIENCE: Duration = Duration::from_secs(60);
    // At the greatest depth of a lookup, to make the time between the two lookups long.
    let deep = format!("{}{ZONE}", "x.".repeat(14));
    let (name, encloser) = (Name::parse(&deep).expect("a name"), Name::parse(ZONE).expect("a name"));
    let [own, while_gone, while_there] = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]];
    let one = |address: [u8; 4]| node(vec![(TYPE_A, addresses(&[address], 30))]);
    let wildcard = |address| Node { deep: Some(Arc::new(one(address))), ..Node::pass(ZoneId::Static) };
    let (own_node, gone_node, there_node) = (one(own), wildcard(while_gone), wildcard(while_there));

    let (datapath, mut table) = common::load(false, 64);
    table.put(&encloser, &there_node).expect("fits");
    table.put(&name, &own_node).expect("fits");
    let (over, seen_gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let frame = Packet::v4(&Query::new(&deep, TYPE_A)).frame();
    let read = |program: &TestRun| {
        let mut out = vec![0; 2048];
        let mut seen = [0_u64; 2];
        while !over.load(Ordering::Relaxed) {
            let (verdict, len) = program.run(&frame, &mut out).expect("test run");
            assert_eq!(verdict, TC_ACT_REDIRECT, "passed, but it or the wildcard always exists");
            let reply = decode::reply(&frame, &out[..len], ETHERNET).unwrap_or_else(|e| panic!("{e}"));
            let rdata = &reply.sections[0][0].rdata;
            assert!(*rdata == own || *rdata == while_gone, "{rdata:?}: the wildcard's while the name existed");
            seen[usize::from(*rdata == own)] += 1;
            seen_gone.fetch_or(seen[0] > 0, Ordering::Relaxed);
        }
        seen
    };
    let programs: Vec<_> = (0..2).map(|_| datapath.test_run(Program::Ethernet).expect("test run")).collect();
    let _heart = Heart::new(datapath);
    let (rounds, seen) = std::thread::scope(|s| {
        let read = &read;
        let readers: Vec<_> = programs.iter().map(|p| s.spawn(move || read(p))).collect();
        let (started, mut rounds) = (Instant::now(), 0);
        let is_enough =
            |rounds, time| time > PATIENCE || time > FOR && rounds >= ROUNDS && seen_gone.load(Ordering::Relaxed);
        while !is_enough(rounds, started.elapsed()) && !readers.iter().any(|r| r.is_finished()) {
            table.put(&encloser, &gone_node).expect("fits");
            assert!(table.remove(&name));
            table.put(&name, &own_node).expect("fits");
            table.put(&encloser, &there_node).expect("fits");
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
        (rounds, readers.into_iter().map(joined).fold([0, 0], |sum, n| [sum[0] + n[0], sum[1] + n[1]]))
    });
    eprintln!("{rounds} rounds, answers while gone and there: {seen:?}");
    assert!(seen.iter().all(|n| *n > 0), "{seen:?} in {rounds} rounds");
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Tests the check itself: it rejects an answer of two versions, a part of one, and one that is no longer current.
#[test]
fn a_torn_answer_is_detected() {
    let storm = Storm {
        versions: (0..=NAMES).map(|_| Version::default()).collect(),
        left: AtomicU64::new(0),
        over: AtomicBool::new(true),
    };
    let name = 4;
    let several: Vec<u64> = (0..100).filter(|v| records(name, *v) > 2).take(2).collect();
    let [old, new] = several[..] else { panic!("versions of several records") };
    storm.versions[name].started.store(new, Ordering::Relaxed);
    let answers = |version: u64| -> Vec<Record> {
        let record =
            |i| Record { owner: Vec::new(), rtype: TYPE_A, ttl: 30, rdata: v4(name, version, i).octets().into() };
        (0..records(name, version)).map(record).collect()
    };
    assert_eq!(storm.check(name, [old, 0], &answers(old)), Ok(()));
    assert_eq!(storm.check(name, [old, 0], &answers(new)), Ok(()));
    let mut turned = answers(new);
    turned.rotate_left(1);
    assert_eq!(storm.check(name, [old, 0], &turned), Ok(()));
    assert!(storm.check(name, [new, 0], &answers(old)).is_err(), "an old version");
    assert!(storm.check(name, [old, 0], &answers(new + 1)).is_err(), "a future version");
    assert!(storm.check(name, [old, 0], &answers(new)[1..]).is_err(), "a missing record");
    let mut torn = answers(new);
    torn[1] = answers(old)[1].clone();
    assert!(storm.check(name, [old, 0], &torn).is_err(), "of two versions");
    assert!(storm.check(5, [old, 0], &answers(new)).is_err(), "another name's");
}
