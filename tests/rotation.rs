//! Answers whose last records rotate have the same records in every order.

mod common;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use common::decode::Datagram;
use common::outcome_name;
use common::packet::{ETHERNET, Opt, Packet, Query, TYPE_A, hex};
use edns::datapath::Program;
use edns::zone::name::Name;
use edns::zone::node::{Node, Verdict, ZoneId};
use edns::zone::render::{Data, exact};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};

const TYPE_SRV: u16 = 33;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|e| panic!("{text} {e}"))
}

/// The owner and the data of each record.
fn set(records: &[Record]) -> BTreeSet<(String, String)> {
    records.iter().map(|r| (r.name.to_string(), r.data.to_string())).collect()
}

/// Asks until each of `count` records was first in a section of addresses. Returns the sets of records, which are the same in
/// all replies.
fn ask(owner: &str, qtype: u16, verdict: Verdict, count: usize) -> [BTreeSet<(String, String)>; 2] {
    let (datapath, mut table) = common::load(false, 16);
    let node = Node { types: vec![(qtype, verdict)], ..Node::pass(ZoneId::Static) };
    table.put(&name(owner), &node).expect("fits");
    let probe = datapath.test_run(Program::Probe).expect("test run");
    let (mut orders, mut firsts, mut sets) = (HashSet::new(), HashSet::new(), None);
    for id in 0..64_u16 {
        let query = Query { id, ..Query::new(owner, qtype).edns(&Opt::new(1232)) };
        let frame = Packet::v4(&query).frame();
        let mut out = vec![0; 2048];
        let (outcome, len) = probe.run(&frame, &mut out).expect("test run");
        assert_eq!(outcome_name(outcome), Some("answered"));
        let reply = Datagram::read(&out[..len], ETHERNET).unwrap_or_else(|e| panic!("{e}\n{}", hex(&out[..len])));
        assert!(reply.has_correct_checksums(), "{}", hex(&out[..len]));
        let message = Message::from_vec(reply.payload).unwrap_or_else(|e| panic!("{e}\n{}", hex(reply.payload)));
        let found = [set(&message.answers), set(&message.additionals)];
        assert_eq!(sets.get_or_insert_with(|| found.clone()), &found, "{}", hex(reply.payload));
        let addresses: Vec<String> = [&message.answers, &message.additionals]
            .into_iter()
            .flatten()
            .filter(|r| matches!(r.data, RData::A(_)))
            .map(|r| r.data.to_string())
            .collect();
        assert_eq!(addresses.len(), count);
        firsts.insert(addresses[0].clone());
        orders.insert(addresses);
    }
    assert_eq!((firsts.len(), orders.len()), (count, count), "each record is first in exactly one order");
    sets.expect("replies")
}

#[test]
fn the_glue_of_eight_targets_is_the_same_in_every_order() {
    // Labels of all lengths, odd and even, so that no offset is right by chance.
    let owner = name("db.default.svc.cluster.local");
    let labels: Vec<String> = (0..8).map(|i| format!("db-{}{i}", "x".repeat(i))).collect();
    let targets: Vec<Name> = labels.iter().map(|l| owner.child(l).expect("a label")).collect();
    let services: Vec<_> =
        targets.iter().map(|target| (&owner, Data::Srv { target, port: 5432, weight: 12 }, 30)).collect();
    let address = |i: usize| IpAddr::from([10, 1, i as u8, 7 * i as u8]);
    let glue: Vec<_> = targets.iter().enumerate().map(|(i, t)| (t, Data::Address(address(i)), 30)).collect();
    let [answers, additionals] = ask("db.default.svc.cluster.local", TYPE_SRV, exact(&owner, &services, &glue), 8);
    assert_eq!(answers.len(), 8);
    let wanted: BTreeSet<_> = labels
        .iter()
        .enumerate()
        .map(|(i, l)| (format!("{l}.db.default.svc.cluster.local."), address(i).to_string()))
        .collect();
    assert_eq!(additionals, wanted);
}

#[test]
fn addresses_after_aliases_are_the_same_in_every_order() {
    for (owner, middle) in
        [("alias.default.svc.cluster.local", "b.other"), ("odd.default.svc.cluster.local", "bb.other")]
    {
        let [owner_name, middle, last] = [owner, middle, "db.default.svc.cluster.local"].map(name);
        let mut answers = vec![(&owner_name, Data::Alias(&middle), 30), (&middle, Data::Alias(&last), 30)];
        answers.extend((0..5).map(|i| (&last, Data::Address([10, 1, i, 3 * i].into()), 30)));
        let [answers, additionals] = ask(owner, TYPE_A, exact(&owner_name, &answers, &[]), 5);
        assert_eq!((answers.len(), additionals.len()), (7, 0));
        for i in 0..5 {
            let wanted = ("db.default.svc.cluster.local.".to_owned(), format!("10.1.{i}.{}", 3 * i));
            assert!(answers.contains(&wanted), "{answers:?}");
        }
    }
}
