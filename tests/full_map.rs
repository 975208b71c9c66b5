//! The table against a HashMap: when it is full, and after any number of changes, every name that went in is found as it was
//! put last, and none else.

mod common;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use common::decode;
use common::model::{OWNER, absence, addresses, node};
use common::packet::{ETHERNET, Opt, Packet, Query, TYPE_A, TYPE_AAAA, hex};
use common::rng::Rng;
use edns::datapath::counters::outcome_name;
use edns::datapath::{Datapath, Program, Put, Reason, Refused, TableError, TestRun};
use edns::zone::change::Change;
use edns::zone::cluster::share::Size;
use edns::zone::cluster::spec::{EndpointSpec, Key, PortSpec, ServiceSpec, SliceSpec};
use edns::zone::cluster::{Cluster, Settings};
use edns::zone::name::Name;
use edns::zone::node::{ANY_TYPE, Kind, Node, Verdict};
use edns::zone::pass::PassNames;

struct Kernel(TestRun);

impl Kernel {
    fn new(datapath: &Datapath) -> Self {
        Self(datapath.test_run(Program::Probe).expect("test run"))
    }

    /// The address that the program answers for a name; None where it knows none.
    fn lookup(&self, name: &str) -> Option<Ipv4Addr> {
        let frame = Packet::v4(&Query::new(name, TYPE_A)).frame();
        let mut out = vec![0; 2048];
        let (outcome, len) = self.0.run(&frame, &mut out).expect("test run");
        match outcome_name(outcome) {
            Some("answered") => {
                let reply = decode::reply(&frame, &out[..len], ETHERNET)
                    .unwrap_or_else(|e| panic!("{name}: {e}\n{}", hex(&out[..len])));
                let [record] = &reply.sections[0][..] else { panic!("{name}: {reply:?}") };
                let octets: [u8; 4] = record.rdata[..].try_into().expect("an A record");
                Some(octets.into())
            }
            Some("pass_not_found") => None,
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|e| panic!("{text} {e}"))
}

fn one(address: Ipv4Addr) -> Node {
    node(vec![(TYPE_A, addresses(&[address], 30))])
}

fn number(i: u32) -> String {
    format!("n{i}.example.org")
}

fn assert_full(result: &Result<Put, TableError>, limit: usize) {
    let Err(e @ TableError::Full(n)) = result else { panic!("{result:?}") };
    assert_eq!(*n, limit);
    let text = e.to_string();
    assert!(text.contains("MaxRecords") && text.contains(&limit.to_string()), "{text}");
}

#[test]
fn a_full_table_says_so_and_goes_on() {
    // Also sizes at which the index is as small as can be.
    for limit in [1, 7, 8, 9, 100, 1000] {
        let (datapath, mut table) = common::load(false, limit);
        let kernel = Kernel::new(&datapath);
        for i in 0..limit {
            assert_eq!(table.put(&name(&number(i)), &one(Ipv4Addr::from(i))).expect("fits"), Put::Added);
        }
        assert_eq!(table.len(), limit as usize);
        for i in limit..limit + 10 {
            assert_full(&table.put(&name(&number(i)), &one(Ipv4Addr::from(i))), limit as usize);
        }
        for i in 0..limit + 10 {
            assert_eq!(kernel.lookup(&number(i)), (i < limit).then(|| Ipv4Addr::from(i)), "{i} of {limit}");
        }

        // What is there can still change, and what goes makes room for one.
        let changed = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(table.put(&name(&number(0)), &one(changed)).expect("there already"), Put::Changed);
        assert_eq!(table.put(&name(&number(0)), &one(changed)).expect("there already"), Put::Same);
        assert_eq!(kernel.lookup(&number(0)), Some(changed));
        assert!(table.remove(&name(&number(limit - 1))));
        assert!(!table.remove(&name(&number(limit - 1))));
        assert_eq!(kernel.lookup(&number(limit - 1)), None);
        assert_eq!(table.put(&name("new.example.org"), &one(changed)).expect("room again"), Put::Added);
        assert_eq!(kernel.lookup("new.example.org"), Some(changed));
        assert_full(&table.put(&name(&number(limit)), &one(changed)), limit as usize);
    }
}

/// Names come and go until every line of the index was full at some time and holds many dead slots.
#[test]
fn no_name_is_lost_however_many_come_and_go() {
    for (limit, changes) in [(8_u32, 20_000), (64, 50_000), (500, 150_000)] {
        let (datapath, mut table) = common::load(false, limit);
        let kernel = Kernel::new(&datapath);
        let mut rng = Rng::new(u64::from(limit));
        let mut model: HashMap<u32, Ipv4Addr> = HashMap::new();
        let mut live: Vec<u32> = Vec::new();
        let mut next = 0;
        for change in 0..changes {
            let address = Ipv4Addr::from(0x0a00_0000 + change);
            // Between nearly empty and full, in turns.
            let target = if change / (limit * 8) % 2 == 0 { limit as usize } else { limit as usize / 8 };
            let grow = live.len() < target && !rng.one_in(4) || live.is_empty();
            if grow && live.len() < limit as usize {
                // Names that were there before, and ones never seen.
                let i = if rng.one_in(2) { rng.below(limit as usize * 4) as u32 } else { limit * 4 + next };
                next += 1;
                let put = table.put(&name(&number(i)), &one(address)).expect("room");
                let old = model.insert(i, address);
                assert_eq!(put, if old.is_some() { Put::Changed } else { Put::Added });
                if old.is_none() {
                    live.push(i);
                }
            } else if rng.one_in(4) {
                let i = *rng.pick(&live);
                assert_eq!(table.put(&name(&number(i)), &one(address)).expect("there already"), Put::Changed);
                model.insert(i, address);
            } else {
                let i = live.swap_remove(rng.below(live.len()));
                assert!(table.remove(&name(&number(i))));
                model.remove(&i);
                assert_eq!(kernel.lookup(&number(i)), None);
            }
            assert_eq!(table.len(), model.len());
            if !live.is_empty() {
                let i = *rng.pick(&live);
                assert_eq!(kernel.lookup(&number(i)), Some(model[&i]), "{i} after {change} changes, at most {limit}");
            }
            let i = rng.below(limit as usize * 4) as u32;
            assert_eq!(
                kernel.lookup(&number(i)),
                model.get(&i).copied(),
                "{i} after {change} changes, at most {limit}"
            );
            if change % 5000 == 0 {
                for (i, address) in &model {
                    assert_eq!(
                        kernel.lookup(&number(*i)),
                        Some(*address),
                        "{i} after {change} changes, at most {limit}"
                    );
                }
            }
        }
        let mut names: Vec<Name> = table.reader().names(0, usize::MAX).into_iter().flatten().collect();
        let mut wanted: Vec<Name> = live.iter().map(|i| name(&number(*i))).collect();
        names.sort();
        wanted.sort();
        assert_eq!(names, wanted);
    }
}

/// Whatever of a query changes from one to the next, each address is first as often as the others.
#[test]
fn rotation_spreads_evenly() {
    const ROUNDS: u32 = 1000;
    let (datapath, mut table) = common::load(false, 16);
    let probe = datapath.test_run(Program::Probe).expect("test run");
    let mut rng = Rng::new(5);
    for count in [2_u8, 3, 5, 8, 30] {
        let v4: Vec<_> = (0..count).map(|i| Ipv4Addr::new(10, 0, 0, i)).collect();
        let v6: Vec<_> = v4.iter().map(|a| a.to_ipv6_mapped()).collect();
        let node = node(vec![(TYPE_A, addresses(&v4, 30)), (TYPE_AAAA, addresses(&v6, 30))]);
        table.put(&name("many.example.org"), &node).expect("fits");
        for what in ["random", "IDs in order", "ports in order"] {
            for qtype in [TYPE_A, TYPE_AAAA] {
                let mut first = vec![0_u32; count.into()];
                for round in 0..ROUNDS * u32::from(count) {
                    let mut query = Query::new("many.example.org", qtype).edns(&Opt::new(1232));
                    let mut sport = 40_000;
                    match what {
                        "random" => (query.id, sport) = (rng.next() as u16, 1024 + rng.below(60_000) as u16),
                        "IDs in order" => query.id = round as u16,
                        _ => sport = 1024 + (round % 60_000) as u16,
                    }
                    let frame = Packet { sport, ..Packet::v4(&query) }.frame();
                    let mut out = vec![0; 2048];
                    let (_, len) = probe.run(&frame, &mut out).expect("test run");
                    let reply = decode::reply(&frame, &out[..len], ETHERNET).unwrap_or_else(|e| panic!("{e}"));
                    assert_eq!(reply.sections[0].len(), usize::from(count));
                    first[usize::from(*reply.sections[0][0].rdata.last().expect("an address"))] += 1;
                }
                // Six standard deviations of a fair draw at the most.
                let slack = ROUNDS / 5;
                assert!(
                    first.iter().all(|n| n.abs_diff(ROUNDS) < slack),
                    "{what}, type {qtype}: {first:?} times first in {ROUNDS} each"
                );
            }
        }
    }
}

/// Names that differ little, and others of every length, are each their own.
#[test]
fn names_alike_are_told_apart() {
    let (datapath, mut table) = common::load(false, 4096);
    let kernel = Kernel::new(&datapath);
    let mut names: Vec<String> = (1..=63).map(|n| "x".repeat(n)).collect();
    // The octets of a label's length and of a letter may trade places.
    names.extend((1..=200).map(|n| {
        format!(
            "{}.example",
            "y".repeat(n)
                .as_bytes()
                .chunks(50)
                .map(|c| String::from_utf8_lossy(c).into_owned())
                .collect::<Vec<_>>()
                .join(".")
        )
    }));
    names.extend(
        ["a.b.c.d", "ab.c.d", "a.bc.d", "abc.d", "a.b.cd", "a", "b", "a-b", "a_b", "0", "d", "c.d"].map(Into::into),
    );
    for (i, text) in names.iter().enumerate() {
        assert_eq!(table.put(&name(text), &one(Ipv4Addr::from(i as u32))).expect("fits"), Put::Added, "{text}");
    }
    for (i, text) in names.iter().enumerate() {
        assert_eq!(kernel.lookup(text), Some(Ipv4Addr::from(i as u32)), "{text}");
        assert_eq!(kernel.lookup(&text.to_ascii_uppercase()), Some(Ipv4Addr::from(i as u32)), "{text}");
    }
    // '@' and '[' are next to letters, and no upper case of anything.
    for (upper, lower) in [("@", "`"), ("[", "{")] {
        let wire = [&[1], lower.as_bytes(), &[0]].concat();
        table.put(&Name::from_wire(&wire).expect("a name"), &one(Ipv4Addr::LOCALHOST)).expect("fits");
        assert_eq!(kernel.lookup(lower), Some(Ipv4Addr::LOCALHOST), "{lower}");
        assert_eq!(kernel.lookup(upper), None, "{upper}");
    }
}

/// What a question for A gets.
fn ask(kernel: &Kernel, name: &str) -> &'static str {
    let frame = Packet::v4(&Query::new(name, TYPE_A)).frame();
    let (outcome, _) = kernel.0.run(&frame, &mut vec![0; 2048]).expect("test run");
    outcome_name(outcome).expect("an outcome")
}

/// A name whose children, and what is further below, are said not to exist.
fn closed() -> Node {
    let missing = Arc::new(node(vec![(ANY_TYPE, absence(Kind::Nxdomain, &OWNER))]));
    Node { child: Some(Arc::clone(&missing)), deep: Some(missing), ..one(Ipv4Addr::LOCALHOST) }
}

/// A name that no node can express, and one for which there is no room: they pass with what is below them, and nothing else
/// does; also where names between them and the one that speaks for them come and go.
#[test]
fn what_has_no_place_passes_with_its_subtree_and_nothing_else_does() {
    let (datapath, mut table) = common::load(false, 6);
    let kernel = Kernel::new(&datapath);
    let mut refused = Refused::default();
    let too_many = || Node { types: vec![(99, Verdict::Pass); 9], ..closed() };
    let put = |n: &str, node: Node| Change::Put(name(n), node);
    let check = |step: &str, passes: &[&str], absent: &[&str]| {
        passes.iter().for_each(|n| assert!(ask(&kernel, n).starts_with("pass_"), "{step}: {n} {}", ask(&kernel, n)));
        absent.iter().for_each(|n| assert_eq!(ask(&kernel, n), "nxdomain", "{step}: {n}"));
    };
    for n in ["zone", "a.zone", "b.zone"] {
        assert!(refused.apply(&mut table, &put(n, closed())));
    }
    refused.settle(&mut table);
    check("at first", &[], &["x.zone", "x.y.zone", "s.a.zone", "x.s.a.zone", "x.b.zone", "y.x.b.zone"]);

    // One label below a name: that name speaks for nothing any more; others do.
    assert!(!refused.apply(&mut table, &put("s.a.zone", too_many())));
    refused.settle(&mut table);
    check("refused", &["s.a.zone", "x.s.a.zone", "x.a.zone"], &["x.zone", "y.x.zone", "x.b.zone", "y.x.b.zone"]);
    assert_eq!((refused.len(), refused.count(Reason::Size), refused.count(Reason::Full)), (1, 1, 0));
    assert_eq!(kernel.lookup("a.zone"), Some(Ipv4Addr::LOCALHOST), "the mark's own answer stays");

    // Two labels below: only what is two labels below passes.
    assert!(!refused.apply(&mut table, &put("q.p.b.zone", too_many())));
    check("further below", &["q.p.b.zone", "x.q.p.b.zone"], &["p.b.zone", "x.b.zone", "x.zone", "y.x.zone"]);

    // The name that is marked changes, and stays marked.
    assert!(refused.apply(&mut table, &put("a.zone", Node { types: Vec::new(), ..closed() })));
    check("the mark's node is another", &["s.a.zone", "x.s.a.zone"], &["x.zone", "y.x.zone"]);
    // It goes: the one above it takes its place.
    assert!(refused.apply(&mut table, &Change::Remove(name("a.zone"))));
    refused.settle(&mut table);
    check("the mark's name is gone", &["s.a.zone", "x.s.a.zone"], &["a.zone", "x.zone", "x.b.zone"]);
    // It is back, and with it what the other said.
    assert!(refused.apply(&mut table, &put("a.zone", closed())));
    refused.settle(&mut table);
    check("the mark's name is back", &["s.a.zone", "x.s.a.zone"], &["x.zone", "y.x.zone", "x.b.zone"]);

    // A node that was there, and is to be one that can't be, goes.
    assert!(refused.apply(&mut table, &put("b.zone", too_many())));
    refused.settle(&mut table);
    check("what was there", &["b.zone", "x.b.zone", "q.p.b.zone"], &[]);
    assert!(refused.apply(&mut table, &put("b.zone", closed())));
    refused.settle(&mut table);
    check("as before", &["q.p.b.zone"], &["x.zone", "y.x.zone", "x.b.zone"]);

    // No room: the same, until there is some.
    for n in ["c.zone", "d.zone", "e.zone"] {
        assert!(refused.apply(&mut table, &put(n, closed())));
    }
    assert!(!refused.apply(&mut table, &put("f.zone", closed())));
    refused.settle(&mut table);
    assert_eq!((refused.count(Reason::Full), refused.count(Reason::Size)), (1, 2));
    check("full", &["f.zone", "x.f.zone"], &["x.b.zone", "x.c.zone", "y.x.c.zone"]);
    assert!(refused.apply(&mut table, &Change::Remove(name("c.zone"))));
    refused.settle(&mut table);
    check("room again", &["q.p.b.zone"], &["c.zone", "x.f.zone", "x.zone"]);
    assert_eq!(kernel.lookup("f.zone"), Some(Ipv4Addr::LOCALHOST));

    // What can't be is wanted no more.
    for n in ["s.a.zone", "q.p.b.zone"] {
        assert!(!refused.apply(&mut table, &Change::Remove(name(n))));
    }
    refused.settle(&mut table);
    assert!(refused.is_empty());
    check("at last", &[], &["x.zone", "y.x.zone", "s.a.zone", "x.s.a.zone", "q.p.b.zone", "x.b.zone", "x.f.zone"]);
}

/// Whatever room a cluster has: a name that it has is answered or passes, and whoever is not asked to yield says as before
/// what there is not; at every step of every change, through the program.
#[test]
fn a_cluster_without_room_passes_what_yields_and_nothing_else() {
    let settings = Settings {
        zone: name("cluster.local"),
        ttl: 30,
        negative_answers: true,
        serial: 1,
        pass: PassNames::default(),
    };
    let (datapath, mut table) = common::load(false, 200);
    let kernel = Kernel::new(&datapath);
    let (mut cluster, mut refused) = (Cluster::new(settings), Refused::default());
    ["large", "small"].iter().for_each(|ns| cluster.apply_namespace(ns));
    let mut exist = Vec::new();
    let mut serve = |cluster: &mut Cluster, ns: &str, i: u8, ports: u16| {
        let port = |p| PortSpec { name: format!("p{p}"), protocol: "TCP".into(), port: Some(p) };
        let ports: Vec<PortSpec> = (0..ports).map(port).collect();
        let service = format!("s{i}");
        let base = format!("{service}.{ns}.svc.cluster.local");
        exist.extend(ports.iter().map(|p| format!("_{}._tcp.{base}", p.name)));
        exist.extend([base.clone(), format!("pod.{base}")]);
        let of = ns.as_bytes()[0];
        let addresses = [format!("10.{of}.0.{i}"), format!("10.{of}.1.{i}")];
        let endpoint =
            EndpointSpec { addresses: vec![addresses[1].clone()], hostname: Some("pod".into()), ready: true };
        let slice = SliceSpec { service: Some(service.clone()), ports: ports.clone(), endpoints: vec![endpoint] };
        cluster.apply_slice(Key::new(ns, &service), &slice);
        let spec = ServiceSpec { external_name: None, cluster_ips: vec![addresses[0].clone()], ports };
        cluster.apply_service(Key::new(ns, &service), &spec);
    };
    (0..8).for_each(|i| serve(&mut cluster, "large", i, 9));
    serve(&mut cluster, "small", 0, 2);
    let absent = ["x.small.svc", "y.x.small.svc", "x.s0.small.svc", "gone.svc", "x.gone.svc", "nothing", "y.x.nothing"];
    // Of 13 names for each Service of the large namespace; the last ones have room again, for some and for all.
    let mut passed = Vec::new();
    for room in [125, 120, 112, 100, 60, 40, 25, 21, 60, 110, 200] {
        cluster.set_capacity(Size { names: room, ..Size::MAX });
        let mut changes = cluster.commit();
        changes.append(&mut cluster.rest());
        let is_first = passed.is_empty();
        for change in &changes {
            refused.apply(&mut table, change);
            assert!(table.len() <= room.max(125), "{room}");
            if is_first {
                continue;
            }
            for n in &exist {
                let got = ask(&kernel, n);
                assert!(got == "answered" || got.starts_with("pass_"), "{n} {got}, room for {room}");
                assert!(got == "answered" || !n.contains(".small."), "{n} {got}, room for {room}");
            }
            for n in absent.map(|n| format!("{n}.cluster.local")) {
                assert_eq!(ask(&kernel, &n), "nxdomain", "{n}, room for {room}");
            }
        }
        refused.settle(&mut table);
        assert!(refused.is_empty() && table.len() <= room, "{} names, room for {room}", table.len());
        passed.push(exist.iter().filter(|n| ask(&kernel, n) != "answered").count());
        // It says what there is not as far as it holds what there is.
        let own = ["x.large.svc.cluster.local", "x.s0.large.svc.cluster.local"].map(|n| ask(&kernel, n));
        let expected = match room {
            ..=21 => ["pass_not_found"; 2],
            22..=39 => ["nxdomain", "pass_not_found"],
            _ => ["nxdomain"; 2],
        };
        assert_eq!(own, expected, "room for {room}");
    }
    // Names of addresses first, then nine of ports for each Service, then those of endpoints, then its own.
    assert_eq!(passed, [0, 0, 0, 9, 45, 63, 78, 82, 45, 0, 0]);
}
