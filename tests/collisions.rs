//! Names that were chosen to collide are answered like any others. If names collide nevertheless, the table changes its hash
//! key.

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use common::collisions;
use common::decode;
use common::model::{absence, addresses, node};
use common::outcome_name;
use common::packet::{ETHERNET, Packet, Query, TYPE_A, hex, wire};
use common::rng::Rng;
use edns::datapath::{Datapath, HashKey, Program, Reason, Refused, Table, TestRun};
use edns::zone::change::Change;
use edns::zone::name::Name;
use edns::zone::node::{ANY_TYPE, AnswerKind, Node, ZoneId};

/// The default of MaxRecords, and the number of index lines for it.
const MAX_RECORDS: u32 = 262_144;
const LINES: usize = 1 << 15;
/// As many names as five EndpointSlices have, and as many as a domain file has.
const BY_SLICES: usize = 4_957;
const BY_FILE: usize = 12_288;
const OTHERS: usize = 5_000;
/// More names than one hash value has slots for.
const CHOSEN: usize = 80;
const SERVICE: &str = "chosen.tenant.svc.cluster.local";

fn chosen_by_slices() -> Vec<String> {
    collisions::hostnames(BY_SLICES).into_iter().map(|host| format!("{host}.{SERVICE}")).collect()
}

fn chosen_by_file() -> Vec<String> {
    collisions::names(BY_FILE, "example.org")
}

fn others() -> impl Iterator<Item = String> {
    (0..OTHERS).map(|i| format!("svc-{i}.ns-{}.svc.cluster.local", i % 100))
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|e| panic!("{text} {e}"))
}

fn one(i: usize) -> Node {
    node(vec![(TYPE_A, addresses(&[Ipv4Addr::from(i as u32)], 30))])
}

/// The address in the answer, or the outcome that the query was counted as.
fn ask(probe: &TestRun, name: &str) -> Result<Ipv4Addr, &'static str> {
    let frame = Packet::v4(&Query::new(name, TYPE_A)).frame();
    let mut out = vec![0; 2048];
    let (outcome, len) = probe.run(&frame, &mut out).expect("test run");
    match outcome_name(outcome).expect("an outcome") {
        "answered" => {
            let reply = decode::reply(&frame, &out[..len], ETHERNET)
                .unwrap_or_else(|e| panic!("{name}: {e}\n{}", hex(&out[..len])));
            let octets: [u8; 4] = reply.sections[0][0].rdata[..].try_into().expect("an A record");
            Ok(octets.into())
        }
        other => Err(other),
    }
}

fn probe(datapath: &Datapath) -> TestRun {
    datapath.test_run(Program::Probe).expect("test run")
}

fn namespace(i: usize) -> String {
    format!("ns-{i}.svc.cluster.local")
}

/// A zone whose other names don't exist, and a wildcard.
fn put_zone(table: &mut Table) {
    let missing = Arc::new(node(vec![(ANY_TYPE, absence(AnswerKind::Nxdomain, &wire("cluster.local")))]));
    let zone = Node { child: Some(Arc::clone(&missing)), deep: Some(missing), ..Node::pass(ZoneId::Static) };
    for closed in ["cluster.local", &namespace(1), &namespace(2)] {
        table.put(&name(closed), &zone).expect("fits");
    }
    let apps = Node { child: Some(Arc::new(one(7))), ..Node::pass(ZoneId::Static) };
    table.put(&name("apps.example.com"), &apps).expect("fits");
}

fn assert_zone_is_answered(probe: &TestRun) {
    for missing in ["missing.ns-2.svc", "missing.at-all.ns-2.svc", "missing.ns-3.svc", "missing"] {
        assert_eq!(ask(probe, &format!("{missing}.cluster.local")), Err("nxdomain"), "{missing}");
    }
    assert_eq!(ask(probe, "any.apps.example.com"), Ok(Ipv4Addr::from(7)));
}

#[test]
fn chosen_names_and_others_are_answered() {
    let (datapath, mut table) = common::load(false, MAX_RECORDS);
    let probe = probe(&datapath);
    put_zone(&mut table);
    let names: Vec<String> = chosen_by_slices().into_iter().chain(others()).chain(chosen_by_file()).collect();
    for (i, text) in names.iter().enumerate() {
        table.put(&name(text), &one(i)).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    assert_eq!(table.len(), names.len() + 4, "every name is a record of its own");
    for (i, text) in names.iter().enumerate() {
        assert_eq!(ask(&probe, text), Ok(Ipv4Addr::from(i as u32)), "{text}");
        if i % 8 == 0 {
            assert_eq!(ask(&probe, &text.to_ascii_uppercase()), Ok(Ipv4Addr::from(i as u32)), "{text}");
        }
    }
    assert_zone_is_answered(&probe);
    assert_eq!(table.rekeys(), 0, "one key fits all of them");
}

/// The hash function of the first versions.
fn former_hash(wire: &[u8], seed: u64, multiplier: u64) -> u64 {
    wire.chunks(8).fold(seed, |hash, octets| {
        let mut word = [0; 8];
        word[..octets.len()].copy_from_slice(octets);
        let word = hash ^ (u64::from_le_bytes(word) | 0x2020_2020_2020_2020);
        (word ^ word >> 32).wrapping_mul(multiplier)
    })
}

/// How many names would have found no slot in the index of the first versions.
fn refused_formerly(names: &[String], rng: &mut Rng) -> usize {
    let (seed, multiplier) = (rng.next(), rng.next() | 0x8000_0001_0000_0001);
    let mut lines = vec![0; LINES];
    let has_no_slot = |text: &&String| {
        let home = (former_hash(name(text).wire(), seed, multiplier) >> 8) as usize;
        let free = (home..home + 4).map(|line| line % LINES).find(|line| lines[*line] < 16);
        free.map(|line| lines[line] += 1).is_none()
    };
    names.iter().filter(has_no_slot).count()
}

/// Shows that the names above do collide in the former hash function.
#[test]
fn in_the_former_hash_they_collide() {
    const KEYS: usize = 16;
    let mut rng = Rng::new(6);
    let (by_slices, by_file) = (chosen_by_slices(), chosen_by_file());
    let innocent: Vec<String> = others().collect();
    let mut hurt = 0;
    for _ in 0..KEYS {
        assert_eq!(refused_formerly(&innocent, &mut rng), 0);
        assert!(refused_formerly(&by_file, &mut rng) > 0, "by file, whatever the key");
        hurt += usize::from(refused_formerly(&by_slices, &mut rng) > 0);
    }
    assert!(hurt > KEYS / 4, "by slices, with {hurt} of {KEYS} keys");
}

#[test]
fn a_table_whose_names_collide_changes_its_key() {
    const NAMES: usize = 1_000;
    let (datapath, mut table) = common::load(false, MAX_RECORDS);
    let probe = probe(&datapath);
    let names: Vec<String> = others().take(NAMES).collect();
    put_zone(&mut table);
    assert!(table.rekey(HashKey::colliding()), "a few names fit with any key");
    for (i, text) in names.iter().enumerate() {
        table.put(&name(text), &one(i)).unwrap_or_else(|e| panic!("{text}: {e}"));
        for j in [0, i / 2, i] {
            assert_eq!(ask(&probe, &names[j]), Ok(Ipv4Addr::from(j as u32)), "{} after {i} names", names[j]);
        }
        assert_zone_is_answered(&probe);
    }
    assert_eq!(table.rekeys(), 2, "one by the test, one by the table");

    // Not again within the interval. Names without a place pass, with the names below their closest encloser; nothing else
    // changes.
    for text in &names {
        assert!(table.remove(&name(text)));
    }
    assert!(table.rekey(HashKey::colliding()));
    let (mut refused, tenant) = (Refused::default(), namespace(1));
    let names: Vec<String> = (0..CHOSEN).map(|i| format!("chosen-{i}.{tenant}")).collect();
    let changes: Vec<Change> = names.iter().enumerate().map(|(i, text)| Change::Put(name(text), one(i))).collect();
    table.batch(&changes, |table, change| refused.apply(table, change));
    refused.settle(&mut table);
    let without_place = refused.count(Reason::Collision);
    assert!(without_place > 0 && without_place == refused.len(), "{without_place} of {}", refused.len());
    let mut passed = 0;
    for (i, text) in names.iter().enumerate() {
        match ask(&probe, text) {
            Ok(address) => assert_eq!(address, Ipv4Addr::from(i as u32), "{text}"),
            Err(outcome) => {
                assert!(outcome.starts_with("pass_"), "{text} {outcome}");
                assert_eq!(ask(&probe, &format!("x.{text}")), Err(outcome), "its subtree");
                passed += 1;
            }
        }
    }
    assert_eq!(passed, without_place);
    assert_zone_is_answered(&probe);
    assert_eq!(table.rekeys(), 3);
    assert!(!table.take_retry(), "the interval has not passed");
    // After the interval all names have a place.
    table.set_rekey_interval(Duration::ZERO);
    assert!(table.take_retry());
    refused.settle(&mut table);
    assert!(refused.is_empty());
    for (i, text) in names.iter().enumerate() {
        assert_eq!(ask(&probe, text), Ok(Ipv4Addr::from(i as u32)), "{text}");
    }
    assert_zone_is_answered(&probe);
    assert_eq!(ask(&probe, &format!("missing.{tenant}")), Err("nxdomain"), "the mark was removed");
    assert_eq!(table.rekeys(), 4, "once for all of them");
}
