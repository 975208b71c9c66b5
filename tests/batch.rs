//! Batches of changes need few grace periods, however many levels of names come and go. No query gets an answer that was
//! correct neither before nor after the batch.

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::decode;
use common::model::{addresses, node};
use common::packet::{ETHERNET, Packet, Query, TYPE_A};
use common::{Heart, TC_ACT_REDIRECT, env_number};
use edns::datapath::{Program, Put, Reason, Refused, Table, TestRun};
use edns::zone::change::{Change, order};
use edns::zone::name::Name;
use edns::zone::node::{Node, Verdict, ZoneId};

/// Levels of names below the zone. At each level one name answers for the names below it.
const LEVELS: u8 = 10;
const ZONE: &str = "batch.example.org";
/// Names at each level that answer for nothing below themselves.
const LEAVES: u8 = 20;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// The name at a level that answers for the names below it; at level 0 the zone.
fn encloser(level: u8) -> String {
    (1..=level).fold(ZONE.into(), |above, level| format!("l{level}.{above}"))
}

fn leaf(level: u8, i: u8) -> String {
    format!("leaf{i}.{}", encloser(level))
}

/// A node that answers for the names below a level, with an address that has the level in it.
fn speaker(level: u8) -> Node {
    let below = Arc::new(node(vec![(TYPE_A, addresses(&[Ipv4Addr::new(10, 1, level, 0)], 30))]));
    Node { child: Some(Arc::clone(&below)), deep: Some(below), ..node(vec![(TYPE_A, addresses(&[own(level, 0)], 30))]) }
}

fn own(level: u8, i: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 2, level, i)
}

/// All names, or none except the zone's.
fn changes(there: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for level in 1..=LEVELS {
        let mut nodes = vec![(name(&encloser(level)), speaker(level))];
        let leaf = |i| (name(&leaf(level, i)), node(vec![(TYPE_A, addresses(&[own(level, i)], 30))]));
        nodes.extend((1..=LEAVES).map(leaf));
        changes.extend(
            nodes.into_iter().map(|(name, node)| if there { Change::Put(name, node) } else { Change::Remove(name) }),
        );
    }
    // The zone's own answer for names below it changes, too.
    changes.push(Change::Put(name(ZONE), speaker(if there { 100 } else { 200 })));
    order(&mut changes);
    changes
}

fn make(table: &mut Table, change: &Change) -> bool {
    match change {
        Change::Put(name, node) => table.put(name, node).expect("fits") != Put::Same,
        Change::Remove(name) => table.remove(name),
    }
}

/// The address in the program's answer; None if the query passes.
fn ask(program: &TestRun, frame: &[u8]) -> Option<Ipv4Addr> {
    let mut out = vec![0; 2048];
    let (verdict, len) = program.run(frame, &mut out).expect("test run");
    (verdict == TC_ACT_REDIRECT).then(|| {
        let reply = decode::reply(frame, &out[..len], ETHERNET).unwrap_or_else(|e| panic!("{e}"));
        let octets: [u8; 4] = reply.sections[0][0].rdata[..].try_into().expect("an address");
        octets.into()
    })
}

/// A query, and its answers before and after the batch.
struct Question {
    frame: Vec<u8>,
    name: String,
    answers: [Ipv4Addr; 2],
}

fn questions() -> Vec<Question> {
    let question = |name: String, there: Ipv4Addr| Question {
        frame: Packet::v4(&Query::new(&name, TYPE_A)).frame(),
        name,
        answers: [Ipv4Addr::new(10, 1, 200, 0), there],
    };
    let of_level = |level: u8| {
        [
            question(leaf(level, 1 + level % LEAVES), own(level, 1 + level % LEAVES)),
            question(encloser(level), own(level, 0)),
            question(format!("none.{}", encloser(level)), Ipv4Addr::new(10, 1, level, 0)),
            question(format!("none.at.all.{}", encloser(level)), Ipv4Addr::new(10, 1, level, 0)),
        ]
    };
    (1..=LEVELS).flat_map(of_level).collect()
}

#[test]
fn a_batch_waits_twice_at_most_and_every_answer_is_the_old_or_the_new_one() {
    // Also with the waits for processors that reorder loads.
    for loads_pass in [false, true] {
        come_and_go(loads_pass);
    }
}

fn come_and_go(loads_pass: bool) {
    let rounds = env_number("EDNS_BATCHES", 100);
    let (datapath, mut table) = common::load(false, 4096);
    if loads_pass {
        table.assume_loads_reorder();
    }
    table.batch(&changes(false), make);
    let programs: Vec<_> = (0..2).map(|_| datapath.test_run(Program::Ethernet).expect("test run")).collect();
    let _heart = Heart::new(datapath);
    let questions = questions();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = programs
            .iter()
            .map(|program| {
                let (questions, over) = (&questions, &over);
                scope.spawn(move || {
                    let (mut passed, mut seen) = (0_u64, [0_u64; 2]);
                    while !over.load(Ordering::Relaxed) {
                        for Question { frame, name, answers } in questions {
                            match ask(program, frame) {
                                None => passed += 1,
                                Some(answer) => {
                                    let which = answers.iter().position(|a| *a == answer);
                                    let which =
                                        which.unwrap_or_else(|| panic!("{name}: {answer}, not one of {answers:?}"));
                                    seen[which] += 1;
                                }
                            }
                        }
                    }
                    (passed, seen)
                })
            })
            .collect();
        for round in 0..rounds {
            let there = round % 2 == 0;
            let before = table.waits();
            table.batch(&changes(there), make);
            assert!(table.waits() - before <= 2, "{} waits", table.waits() - before);
            for Question { frame, name, answers } in &questions {
                assert_eq!(ask(&programs[0], frame), Some(answers[usize::from(there)]), "{name}, there: {there}");
            }
            if readers.iter().any(|r| r.is_finished()) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            let (passed, seen) = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            eprintln!("{seen:?} answers of before and after, {passed} queries passed");
            assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
        }
    });
}

/// Names behind a closed gate need no order, as at the initial sync of a cluster.
#[test]
fn names_behind_a_closed_gate_wait_for_nothing() {
    let (datapath, mut table) = common::load(false, 4096);
    let of_cluster = |change: Change| match change {
        Change::Put(name, node) => {
            let below = node.child.as_deref().map(|below| Arc::new(Node { zone: ZoneId::Cluster, ..below.clone() }));
            Change::Put(name, Node { zone: ZoneId::Cluster, child: below.clone(), deep: below, ..node })
        }
        remove => remove,
    };
    let all: Vec<Change> = changes(true).into_iter().map(of_cluster).collect();
    datapath.settings().set_positive_gate(ZoneId::Cluster, edns::datapath::Gate::NotSynced);
    table.batch(&all, make);
    assert_eq!(table.waits(), 0);
}

/// A node that the maps can't express.
fn too_many_types() -> Node {
    Node { types: vec![(99, Verdict::Pass); 9], ..Node::pass(ZoneId::Static) }
}

/// A batch adds names that have no place and a name that answers for them from then on. Its answer for names below is written
/// later than itself and must not cover those names either. A name that loses its place is removed.
#[test]
fn a_postponed_answer_does_not_cover_names_without_a_place() {
    for loads_pass in [false, true] {
        let (datapath, mut table) = common::load(false, 4096);
        if loads_pass {
            table.assume_loads_reorder();
        }
        let program = datapath.test_run(Program::Ethernet).expect("test run");
        let _heart = Heart::new(datapath);
        let ask = |name: &str| ask(&program, &Packet::v4(&Query::new(name, TYPE_A)).frame());
        let mut refused = Refused::default();
        let mut make = |table: &mut Table, mut changes: Vec<Change>| {
            order(&mut changes);
            let before = table.waits();
            table.batch(&changes, |table, change| refused.apply(table, change));
            assert!(table.waits() - before <= 2, "{} waits", table.waits() - before);
            refused.settle(table);
            refused.count(Reason::Size)
        };
        let put = |name: &str, node: Node| Change::Put(self::name(name), node);
        let spoken = Some(Ipv4Addr::new(10, 1, 1, 0));
        let (above, lost, gone) = (encloser(1), leaf(1, 1), leaf(1, 2));
        let at_first = vec![put(ZONE, speaker(0)), put(&above, speaker(2)), put(&gone, speaker(2))];
        assert_eq!(make(&mut table, at_first), 0);
        assert_eq!(ask(&gone), Some(own(2, 0)));

        // All levels are new, so the node above is written twice.
        let mut changes = changes(true);
        changes.retain(|change| ![&lost, &gone].iter().any(|n| change.name() == &name(n)));
        changes.extend([put(&lost, too_many_types()), put(&gone, too_many_types())]);
        assert_eq!(make(&mut table, changes), 2);
        for passes in [&lost, &gone, &format!("x.{lost}"), &format!("none.{above}")] {
            assert_eq!(ask(passes), None, "{passes}, loads pass: {loads_pass}");
        }
        assert_eq!(ask(&above), Some(own(1, 0)));
        assert_eq!(ask(&leaf(2, 1)), Some(own(2, 1)));
        assert_eq!(ask(&format!("none.{}", encloser(2))), Some(Ipv4Addr::new(10, 1, 2, 0)));

        // After the removal of those names the answers for names below are complete again.
        assert_eq!(make(&mut table, vec![Change::Remove(name(&lost)), Change::Remove(name(&gone))]), 0);
        for name in [&lost, &gone, &format!("x.{lost}"), &format!("none.{above}")] {
            assert_eq!(ask(name), spoken, "{name}, loads pass: {loads_pass}");
        }
    }
}
