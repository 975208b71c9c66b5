//! The table against a HashMap. When the table is full, and after any number of changes, every name has the answer that was
//! put last, and no other name is found.

mod common;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use common::decode;
use common::model::{OWNER, absence, addresses, node};
use common::outcome_name;
use common::packet::{ETHERNET, Opt, Packet, Query, TYPE_A, TYPE_AAAA, hex};
use common::rng::Rng;
use edns::datapath::{Datapath, Program, Put, Reason, Refused, TableError, TestRun};
use edns::zone::change::Change;
use edns::zone::cluster::share::Size;
use edns::zone::cluster::spec::{EndpointSpec, Key, PortSpec, ServiceSpec, SliceSpec};
use edns::zone::cluster::{Cluster, ClusterConfig};
use edns::zone::name::Name;
use edns::zone::node::{ANY_TYPE, AnswerKind, Node, Verdict};
use edns::zone::pass::PassNames;

struct Kernel(TestRun);

impl Kernel {
    fn new(datapath: &Datapath) -> Self {
        Self(datapath.test_run(Program::Probe).expect("test run"))
    }

    /// The address in the program's answer; None if it doesn't know the name.
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
fn a_full_table_is_an_error_and_keeps_working() {
    // Also limits at which the index has its smallest size.
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

        // Existing names can still change, and a removed name makes room for a new one.
        let changed = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(table.put(&name(&number(0)), &one(changed)).expect("an existing name"), Put::Changed);
        assert_eq!(table.put(&name(&number(0)), &one(changed)).expect("an existing name"), Put::Same);
        assert_eq!(kernel.lookup(&number(0)), Some(changed));
        assert!(table.remove(&name(&number(limit - 1))));
        assert!(!table.remove(&name(&number(limit - 1))));
        assert_eq!(kernel.lookup(&number(limit - 1)), None);
        assert_eq!(table.put(&name("new.example.org"), &one(changed)).expect("room again"), Put::Added);
        assert_eq!(kernel.lookup("new.example.org"), Some(changed));
        assert_full(&table.put(&name(&number(limit)), &one(changed)), limit as usize);
    }
}

/// Names come and go until every line of the index was full at some time and has many dead slots.
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
            // Alternates between nearly empty and full.
            let target = if change / (limit * 8) % 2 == 0 { limit as usize } else { limit as usize / 8 };
            let grow = live.len() < target && !rng.one_in(4) || live.is_empty();
            if grow && live.len() < limit as usize {
                // Names that existed before, and names that never did.
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
                assert_eq!(table.put(&name(&number(i)), &one(address)).expect("an existing name"), Put::Changed);
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

/// Whichever part of a query changes from one to the next, each address is first equally often.
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
                // At most six standard deviations of a fair draw.
                let slack = ROUNDS / 5;
                assert!(
                    first.iter().all(|n| n.abs_diff(ROUNDS) < slack),
                    "{what}, type {qtype}: {first:?} times first in {ROUNDS} each"
                );
            }
        }
    }
}

/// Names that differ little, and names of every length, are distinct.
#[test]
fn similar_names_are_distinct() {
    let (datapath, mut table) = common::load(false, 4096);
    let kernel = Kernel::new(&datapath);
    let mut names: Vec<String> = (1..=63).map(|n| "x".repeat(n)).collect();
    // A label's length octet and a letter may trade places.
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
    // '@' and '[' are next to the letters and have no lower case.
    for (upper, lower) in [("@", "`"), ("[", "{")] {
        let wire = [&[1], lower.as_bytes(), &[0]].concat();
        table.put(&Name::from_wire(&wire).expect("a name"), &one(Ipv4Addr::LOCALHOST)).expect("fits");
        assert_eq!(kernel.lookup(lower), Some(Ipv4Addr::LOCALHOST), "{lower}");
        assert_eq!(kernel.lookup(upper), None, "{upper}");
    }
}

/// The outcome of a query for A.
fn ask(kernel: &Kernel, name: &str) -> &'static str {
    let frame = Packet::v4(&Query::new(name, TYPE_A)).frame();
    let (outcome, _) = kernel.0.run(&frame, &mut vec![0; 2048]).expect("test run");
    outcome_name(outcome).expect("an outcome")
}

/// A name that answers NXDOMAIN for all names below it.
fn closed() -> Node {
    let missing = Arc::new(node(vec![(ANY_TYPE, absence(AnswerKind::Nxdomain, &OWNER))]));
    Node { child: Some(Arc::clone(&missing)), deep: Some(missing), ..one(Ipv4Addr::LOCALHOST) }
}

/// A name that no node can express and a name without room pass, with the names below them. Nothing else passes, also while
/// names between them and their closest encloser come and go.
#[test]
fn names_without_a_place_pass_with_their_subtrees_and_nothing_else_does() {
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

    // One label below a.zone: a.zone no longer answers for names below it; other names do.
    assert!(!refused.apply(&mut table, &put("s.a.zone", too_many())));
    refused.settle(&mut table);
    check("refused", &["s.a.zone", "x.s.a.zone", "x.a.zone"], &["x.zone", "y.x.zone", "x.b.zone", "y.x.b.zone"]);
    assert_eq!((refused.len(), refused.count(Reason::Size), refused.count(Reason::Full)), (1, 1, 0));
    assert_eq!(kernel.lookup("a.zone"), Some(Ipv4Addr::LOCALHOST), "the marked name keeps its own answer");

    // Two labels below b.zone: only names two or more labels below pass.
    assert!(!refused.apply(&mut table, &put("q.p.b.zone", too_many())));
    check("further below", &["q.p.b.zone", "x.q.p.b.zone"], &["p.b.zone", "x.b.zone", "x.zone", "y.x.zone"]);

    // The marked name changes and stays marked.
    assert!(refused.apply(&mut table, &put("a.zone", Node { types: Vec::new(), ..closed() })));
    check("the marked name changes", &["s.a.zone", "x.s.a.zone"], &["x.zone", "y.x.zone"]);
    // The marked name is removed: the next name above takes its place.
    assert!(refused.apply(&mut table, &Change::Remove(name("a.zone"))));
    refused.settle(&mut table);
    check("the marked name is removed", &["s.a.zone", "x.s.a.zone"], &["a.zone", "x.zone", "x.b.zone"]);
    // The marked name is back; the name above answers for names below it again.
    assert!(refused.apply(&mut table, &put("a.zone", closed())));
    refused.settle(&mut table);
    check("the marked name is back", &["s.a.zone", "x.s.a.zone"], &["x.zone", "y.x.zone", "x.b.zone"]);

    // An existing name whose new node can't be expressed is removed.
    assert!(refused.apply(&mut table, &put("b.zone", too_many())));
    refused.settle(&mut table);
    check("an existing name", &["b.zone", "x.b.zone", "q.p.b.zone"], &[]);
    assert!(refused.apply(&mut table, &put("b.zone", closed())));
    refused.settle(&mut table);
    check("as before", &["q.p.b.zone"], &["x.zone", "y.x.zone", "x.b.zone"]);

    // A name without room passes in the same way, until another one is removed.
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

    // The names that can't be expressed are removed.
    for n in ["s.a.zone", "q.p.b.zone"] {
        assert!(!refused.apply(&mut table, &Change::Remove(name(n))));
    }
    refused.settle(&mut table);
    assert!(refused.is_empty());
    check("at last", &[], &["x.zone", "y.x.zone", "s.a.zone", "x.s.a.zone", "q.p.b.zone", "x.b.zone", "x.f.zone"]);
}

/// However little room a cluster has, each of its names is answered or passes, and namespaces within their fair share keep
/// their negative answers. Checked through the program after every step of every change.
#[test]
fn a_cluster_without_room_passes_withheld_names_and_nothing_else() {
    let settings = ClusterConfig {
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
    // Each Service of the large namespace has 13 names. The last values make room again, for some names and for all.
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
        // The namespace has negative answers below the names that it still holds.
        let own = ["x.large.svc.cluster.local", "x.s0.large.svc.cluster.local"].map(|n| ask(&kernel, n));
        let expected = match room {
            ..=21 => ["pass_not_found"; 2],
            22..=39 => ["nxdomain", "pass_not_found"],
            _ => ["nxdomain"; 2],
        };
        assert_eq!(own, expected, "room for {room}");
    }
    // Reverse names are withheld first, then nine port names of each Service, then names of endpoints, then the Service
    // itself.
    assert_eq!(passed, [0, 0, 0, 9, 45, 63, 78, 82, 45, 0, 0]);
}
