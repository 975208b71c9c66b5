//! Maps that have no room for all names of the cluster.

use super::coredns::{Reply, TYPES, World};
use super::kernel::Maps;
use super::order::{apply_in_steps, probes};
use super::*;
use crate::datapath::Table;
use crate::zone::cluster::share::{MARGIN, Size};

const A: u16 = 1;
const SRV: u16 = 33;
const NXDOMAIN: u16 = 3;
/// MaxRecords' default.
const MAX_RECORDS: usize = 262_144;

fn names(names: usize) -> Size {
    Size { names, ..Size::MAX }
}

/// Commits and returns all changes in order.
fn commit(cluster: &mut Cluster) -> Vec<Change> {
    let mut changes = cluster.commit();
    changes.append(&mut cluster.rest());
    changes
}

fn apply(maps: &mut Maps, changes: Vec<Change>) {
    changes.into_iter().for_each(|change| maps.apply(change));
}

/// The units of memory that all nodes take.
fn units(maps: &Maps) -> usize {
    maps.all().iter().map(|(name, node)| Table::units_of(name, node)).sum()
}

fn is_answer(reply: Option<Reply>) -> bool {
    reply.is_some_and(|r| !r.answers.is_empty())
}

fn is_nxdomain(reply: Option<Reply>) -> bool {
    reply.is_some_and(|r| r.rcode == NXDOMAIN)
}

/// A Service with `ports` ports.
fn wide(address: &str, ports: usize) -> ServiceSpec {
    let ports = (0..ports).map(|i| PortSpec { name: format!("p{i}"), protocol: "TCP".into(), port: Some(i as u16) });
    ServiceSpec { external_name: None, cluster_ips: vec![address.into()], ports: ports.collect() }
}

/// After each change of a random history in maps of changing size: every query gets its old or its new answer or passes, the
/// maps hold no more names than they have room for, and queries for names of a namespace within its share are answered.
#[test]
fn every_query_gets_its_old_or_new_answer_or_passes_and_names_within_their_share_are_answered() {
    let probes: Vec<(String, Name)> = probes().into_iter().map(|p| (p.clone(), Name::parse(&p).unwrap())).collect();
    let (mut withheld_rounds, mut passed_absent, mut complete, mut shared) = (0, 0, 0, 0);
    for seed in 1..=12 {
        let (mut random, mut world, mut cluster) = (Random(seed), World::default(), Cluster::new(config()));
        let mut maps = Maps::default();
        for round in 0..25 {
            let most = if random.below(4) == 0 { 60 } else { 25 };
            let capacity = 9 + random.below(most);
            cluster.set_capacity(names(capacity));
            (0..=random.below(5)).for_each(|_| random.event(&mut world, &mut cluster));
            let changes = commit(&mut cluster);
            let allowed = maps.all().len().max(capacity);
            let most = apply_in_steps(&mut maps, changes, &probes, true, || {
                format!("seed {seed}, round {round}\n{}", world.describe())
            });
            assert!(most <= allowed, "seed {seed}, round {round}: {most} names of {allowed}");
            assert!(maps.all().len() <= capacity, "seed {seed}, round {round}: {} of {capacity}", maps.all().len());
            let held = cluster.shares.held();
            // An address that several namespaces list counts to the share of each of them.
            let shares = |address| {
                let charged = cluster.reverse.charged(address);
                charged.filter(|key| !cluster.shares.withheld(key).has(NameGroup::Pointers)).count()
            };
            let again: usize = cluster.reverse.addresses().map(|a| shares(a).saturating_sub(1)).sum();
            shared += again;
            assert_eq!(held.names + 5, maps.all().len() + again, "seed {seed}, round {round}\n{}", world.describe());
            assert!(units(&maps) <= held.units + 5 * FIXED_NAME_UNITS, "seed {seed}, round {round}");
            for (text, name) in &probes {
                let labels = labels_in(name, &cluster.renderer.config.zone);
                let withheld = match labels.as_deref() {
                    None => cluster.withheld_names().0 > 0,
                    Some([.., ns, "svc"]) => cluster.shares.withholds(ns),
                    Some(_) => false,
                };
                for qtype in TYPES {
                    let (got, expected) = (maps.ask(text, qtype), world.expected(text, qtype));
                    assert!(
                        got == expected || withheld && got.is_none(),
                        "seed {seed}, round {round}: {text} {qtype}: {got:?}, not {expected:?}\n{}",
                        world.describe()
                    );
                }
            }
            assert!(cluster.nodes() == *maps.all(), "seed {seed}, round {round}");
            let mut withheld = Withheld::default();
            for address in cluster.reverse.addresses() {
                withheld.set(address, !maps.all().contains_key(&reverse::name_of(address).unwrap()));
            }
            assert_eq!(cluster.withheld, withheld, "seed {seed}, round {round}");
            for (_, name) in &probes {
                assert_eq!(cluster.node(name).as_ref(), maps.all().get(name), "seed {seed}, round {round}: {name}");
            }
            let (passing, _) = cluster.withheld_names();
            withheld_rounds += usize::from(passing > 0);
            complete += usize::from(passing == 0);
            passed_absent += usize::from(["default", "prod"].iter().any(|ns| cluster.shares.passes_absent_names(ns)));
        }
        // With room for all names the nodes are those of a new index.
        cluster.set_capacity(Size::MAX);
        apply(&mut maps, commit(&mut cluster));
        assert!(maps.all() == Maps::new(world.build(config()).1).all(), "seed {seed}");
        assert_eq!(cluster.withheld_names().0, 0);
    }
    assert!(
        withheld_rounds > 20 && passed_absent > 5 && complete > 20 && shared > 0,
        "names withheld in {withheld_rounds} rounds, in none in {complete}; absent names passed in {passed_absent}; {shared} \
         addresses shared"
    );
}

/// The cluster of `make full`: a namespace with 33 Services of 8,000 ports, and 5,000 Services in 200 other namespaces.
struct Greedy {
    cluster: Cluster,
    maps: Maps,
}

const GREEDY: usize = 33;
const PORTS: usize = 8000;
const OTHERS: usize = 5000;

fn other(i: usize) -> (Key, ServiceSpec) {
    let spec = cluster_ip(&[&format!("10.97.{}.{}", i >> 8, i & 255)], &["http/TCP/80"]);
    (Key::new(&format!("ns{}", i % 200), &format!("s{i}")), spec)
}

fn greedy_key(i: usize) -> Key {
    Key::new("greedy", &format!("g{i:02}"))
}

impl Greedy {
    fn new(capacity: Size) -> Self {
        let mut cluster = Cluster::new(config());
        cluster.set_capacity(capacity);
        cluster.apply_namespace("greedy");
        (0..200).for_each(|i| cluster.apply_namespace(&format!("ns{i}")));
        (0..OTHERS).map(other).for_each(|(key, spec)| cluster.apply_service(key, &spec));
        for i in 0..GREEDY {
            cluster.apply_service(greedy_key(i), &wide(&format!("10.98.0.{i}"), PORTS));
        }
        let mut maps = Maps::default();
        apply(&mut maps, commit(&mut cluster));
        Self { cluster, maps }
    }

    fn assert_other_namespaces_are_complete(&self) {
        for i in 0..OTHERS {
            let (key, _) = other(i);
            let name = format!("{}.{}.svc.{ZONE}", key.name, key.namespace);
            assert!(is_answer(self.maps.ask(&name, A)), "{name}");
            assert!(is_answer(self.maps.ask(&format!("_http._tcp.{name}"), SRV)), "{name}");
            assert!(is_answer(self.maps.ask(&format!("{}.{}.97.10.in-addr.arpa", i & 255, i >> 8), 12)), "{name}");
            assert!(is_nxdomain(self.maps.ask(&format!("x.{name}"), A)), "{name}");
        }
        for absent in ["x.ns1.svc", "y.x.ns1.svc", "gone.svc", "x.gone.svc", "nothing", "y.x.nothing"] {
            assert!(is_nxdomain(self.maps.ask(&format!("{absent}.{ZONE}"), A)), "{absent}");
        }
    }

    /// The numbers of the greedy namespace's Services whose ports have their names in the maps.
    fn with_ports(&self) -> Vec<usize> {
        let has =
            |i: &usize, port: usize| is_answer(self.maps.ask(&format!("_p{port}._tcp.g{i:02}.greedy.svc.{ZONE}"), SRV));
        (0..GREEDY).filter(|i| has(i, 0)).inspect(|i| assert!(has(i, PORTS - 1), "all of its ports, or none")).collect()
    }

    /// Deletes all but `left` of its Services: the others get all their names back.
    fn assert_names_come_back(mut self, left: usize) {
        (left..GREEDY).for_each(|i| self.cluster.delete_service(&greedy_key(i)));
        apply(&mut self.maps, commit(&mut self.cluster));
        assert_eq!(self.cluster.withheld_names().0, 0);
        assert_eq!(self.with_ports(), (0..left).collect::<Vec<_>>());
        assert!(is_answer(self.maps.ask("0.0.98.10.in-addr.arpa", 12)));
        self.assert_other_namespaces_are_complete();
    }
}

#[test]
fn a_namespace_that_exceeds_max_records_takes_no_names_from_others() {
    let greedy = Greedy::new(names(MAX_RECORDS));
    assert!(greedy.maps.all().len() <= MAX_RECORDS);
    greedy.assert_other_namespaces_are_complete();
    // It has 33 * 8002 + 2 names; other namespaces and the fixed names have 15405. So it exceeds its share by 17329: all 33
    // reverse names and the ports of the first three Services are withheld; all Services have the same size.
    assert_eq!(greedy.cluster.withheld_names(), (GREEDY + 3 * PORTS, true));
    assert_eq!(greedy.with_ports(), (3..GREEDY).collect::<Vec<_>>());
    for i in 0..GREEDY {
        assert!(is_answer(greedy.maps.ask(&format!("g{i:02}.greedy.svc.{ZONE}"), A)), "the Service's own name is kept");
        assert!(
            is_nxdomain(greedy.maps.ask(&format!("x.g{i:02}.greedy.svc.{ZONE}"), A)),
            "names that don't exist are still NXDOMAIN"
        );
        assert_eq!(greedy.maps.ask(&format!("{i}.0.98.10.in-addr.arpa"), 12), None, "a withheld name passes");
    }
    assert!(is_nxdomain(greedy.maps.ask(&format!("x.greedy.svc.{ZONE}"), A)));
    let mut greedy = greedy;
    let [holder, ..] = &greedy.cluster.largest_namespaces(5)[..] else { panic!("no namespaces") };
    assert_eq!((&*holder.namespace, holder.names), ("greedy", GREEDY * (PORTS + 2) + 2));
    assert_eq!(holder.largest, Some(("g00".into(), PORTS + 2)));
    let reported = greedy.cluster.newly_withheld();
    assert_eq!(reported.iter().map(|h| &*h.namespace).collect::<Vec<_>>(), ["greedy"]);
    assert_eq!(greedy.cluster.newly_withheld(), [], "each namespace is returned once");
    greedy.assert_names_come_back(GREEDY - 5);
}

#[test]
fn a_namespace_that_exceeds_the_memory_takes_no_names_from_others() {
    const UNITS: usize = 700_000;
    let greedy = Greedy::new(Size { names: usize::MAX, units: UNITS });
    assert!(units(&greedy.maps) <= UNITS);
    greedy.assert_other_namespaces_are_complete();
    let (passing, by_names) = greedy.cluster.withheld_names();
    assert!(passing > 0 && !by_names);
    let with_ports = greedy.with_ports().len();
    assert!(with_ports < GREEDY && with_ports > GREEDY / 2, "{with_ports}");
    greedy.assert_names_come_back(GREEDY / 2);
}

/// A tenant creates five namespaces as large as the largest one; 40 others are small.
#[test]
fn six_large_namespaces_share_equally_what_the_small_ones_leave() {
    const CAPACITY: usize = 80_000;
    const SMALL: usize = 500;
    const LARGE: usize = 20_000;
    // Names of a Service with one port: its own, the port's and the reverse name.
    const SERVICE: usize = 3;
    let mut cluster = Cluster::new(config());
    cluster.set_capacity(names(CAPACITY + 5));
    let mut address = 0_u32;
    let mut fill = |cluster: &mut Cluster, ns: &str, names: usize| {
        cluster.apply_namespace(ns);
        for i in 0..(names - 2) / SERVICE {
            address += 1;
            let [_, a, b, c] = address.to_be_bytes();
            let spec = cluster_ip(&[&format!("10.{a}.{b}.{c}")], &["http/TCP/80"]);
            cluster.apply_service(Key::new(ns, &format!("s{i}")), &spec);
        }
    };
    (0..40).for_each(|i| fill(&mut cluster, &format!("small{i}"), SMALL));
    fill(&mut cluster, "lawful", LARGE);
    let mut maps = Maps::default();
    apply(&mut maps, commit(&mut cluster));
    assert_eq!(cluster.withheld_names().0, 0, "without the tenant all names fit");
    (0..5).for_each(|i| fill(&mut cluster, &format!("tenant{i}"), LARGE));
    apply(&mut maps, commit(&mut cluster));

    let held = |ns: &str| cluster.shares.largest_namespaces(100).into_iter().find(|h| *h.namespace == *ns).unwrap();
    let level = (CAPACITY - 40 * held("small0").names) / 6;
    // 40 namespaces of 500 names leave 60,000 of 80,000.
    assert!((10_000..10_000 + 20).contains(&level), "{level}");
    for ns in ["lawful", "tenant0", "tenant1", "tenant2", "tenant3", "tenant4"] {
        let NamespaceUse { names, passing, .. } = held(ns);
        assert!((level - SERVICE..=level).contains(&(names - passing)), "{ns} keeps {} of {level}", names - passing);
    }
    for i in 0..40 {
        assert_eq!(held(&format!("small{i}")).passing, 0, "namespaces below the level keep all names");
        assert!(is_answer(maps.ask(&format!("s0.small{i}.svc.{ZONE}"), A)));
        assert!(is_nxdomain(maps.ask(&format!("x.small{i}.svc.{ZONE}"), A)));
    }
    assert!(maps.all().len() <= CAPACITY + 5);
}

/// After a random history the maps hold the names that a new daemon would put into them, except names that come back only if
/// the maps have room to spare.
#[test]
fn a_restart_gives_the_same_names_except_for_the_margin() {
    const CAPACITY: usize = 2000;
    // Sizes that differ by more than the margin within which a withheld part stays withheld.
    const SIZES: [usize; 9] = [20, 30, 45, 65, 90, 130, 190, 270, 400];
    let spec = |ns: usize, i: usize| wide(&format!("10.9{ns}.0.{i}"), SIZES[i]);
    let names_of_new_daemon = |cluster: &Cluster, capacity: usize| {
        let mut fresh = Cluster::new(config());
        fresh.set_capacity(names(capacity));
        cluster.objects.namespaces.iter().for_each(|ns| fresh.apply_namespace(ns));
        for key in cluster.objects.services.keys() {
            let [ns, i] = [&key.namespace, &key.name].map(|t| t[1..].parse::<usize>().unwrap());
            fresh.apply_service(Key::clone(key), &spec(ns, i));
        }
        commit(&mut fresh);
        fresh.nodes().into_keys().collect::<HashSet<_>>()
    };
    let (mut random, mut cluster) = (Random(3), Cluster::new(config()));
    cluster.set_capacity(names(CAPACITY));
    (0..4).for_each(|ns| cluster.apply_namespace(&format!("n{ns}")));
    let (mut same, mut kept_away) = (0, 0);
    let mut maps = Maps::default();
    for _ in 0..200 {
        let (ns, i) = (random.below(4), random.below(SIZES.len()));
        let key = Key::new(&format!("n{ns}"), &format!("s{i}"));
        if random.below(3) == 0 {
            cluster.delete_service(&key);
        } else {
            cluster.apply_service(key, &spec(ns, i));
        }
        apply(&mut maps, commit(&mut cluster));
        let live: HashSet<Name> = maps.all().keys().cloned().collect();
        let fresh = names_of_new_daemon(&cluster, CAPACITY);
        let smaller = names_of_new_daemon(&cluster, CAPACITY - (CAPACITY - 5) / MARGIN);
        assert!(live.is_subset(&fresh), "no name that a new daemon would withhold");
        assert!(smaller.is_subset(&live), "all names that a new daemon would put into maps smaller by the margin");
        same += usize::from(live == fresh);
        kept_away += usize::from(live != fresh);
    }
    assert!(same > 50 && kept_away > 0, "{same} commits with the same names, {kept_away} with fewer");
}

#[test]
fn names_do_not_flap_at_the_limit() {
    let mut cluster = Cluster::new(config());
    cluster.set_capacity(names(1000));
    ["big", "small"].iter().for_each(|ns| cluster.apply_namespace(ns));
    (0..10).for_each(|i| cluster.apply_service(Key::new("big", &format!("b{i}")), &wide(&format!("10.1.0.{i}"), 96)));
    let own = |c: &Change| {
        c.name().to_string().ends_with("small.svc.cluster.local.") || c.name().to_string().contains(".2.10.")
    };
    commit(&mut cluster);
    assert_eq!(cluster.withheld_names().0, 0, "980 names and 9 fixed names and names of namespaces fit into 1000");
    let mut others = 0;
    for round in 0..50 {
        for i in 0..10 {
            let key = Key::new("small", &format!("s{i}"));
            if round % 2 == 0 {
                cluster.apply_service(key, &cluster_ip(&[&format!("10.2.0.{i}")], &["http/TCP/80"]));
            } else {
                cluster.delete_service(&key);
            }
        }
        others += commit(&mut cluster).iter().filter(|c| !own(c)).count();
        assert!(cluster.withheld_names().0 > 0);
    }
    // Ten reverse names and the ports of one Service are withheld once.
    assert_eq!(others, 10 + 96);
}

/// A tenant that exceeds its share and lists the address of another namespace's pod does not take the pod's reverse name away,
/// whether its namespace sorts before or after the other.
#[test]
fn an_address_that_a_greedy_namespace_lists_too_keeps_its_reverse_name() {
    for greedy in ["a-tenant", "z-tenant"] {
        let mut cluster = Cluster::new(config());
        cluster.set_capacity(names(1000));
        ["prod", greedy].iter().for_each(|ns| cluster.apply_namespace(ns));
        cluster.apply_service(Key::new("prod", "db"), &headless());
        cluster.apply_slice(Key::new("prod", "db-1"), &slice("db", &["sql/TCP/5432"], &["10.1.0.1=db-0"]));
        let mut maps = Maps::default();
        apply(&mut maps, commit(&mut cluster));
        let answers = |maps: &Maps| maps.ask("1.0.1.10.in-addr.arpa", 12).map_or(0, |reply| reply.answers.len());
        assert_eq!(answers(&maps), 1);
        cluster.apply_slice(Key::new(greedy, "s-1"), &slice("s", &[], &["10.1.0.1", "10.1.0.2"]));
        apply(&mut maps, commit(&mut cluster));
        assert_eq!(answers(&maps), 2, "the same as from CoreDNS");
        cluster.apply_service(Key::new(greedy, "big"), &wide("10.98.0.1", 2000));
        apply(&mut maps, commit(&mut cluster));
        assert!(cluster.withheld_names().0 > 2000);
        assert_eq!(answers(&maps), 2, "{greedy}");
        assert_eq!(maps.ask("2.0.1.10.in-addr.arpa", 12), None, "its own reverse name is withheld");
        cluster.delete_slice(&Key::new("prod", "db-1"));
        apply(&mut maps, commit(&mut cluster));
        assert_eq!(
            maps.ask("1.0.1.10.in-addr.arpa", 12),
            None,
            "without a namespace within its share it is withheld, too"
        );
        assert!(cluster.nodes() == *maps.all());
    }
}

/// Other namespaces may list a namespace's addresses under many long names. That makes the reverse names larger, but not the
/// part that counts to the namespace's share.
#[test]
fn targets_in_other_namespaces_do_not_count_to_a_share() {
    let mut cluster = Cluster::new(config());
    ["law", "tenant"].iter().for_each(|ns| cluster.apply_namespace(ns));
    cluster.apply_service(Key::new("law", "db"), &headless());
    let addresses: Vec<String> = (0..100).map(|i| format!("10.1.0.{i}")).collect();
    let named = |host: &str| addresses.iter().map(|a| format!("{a}={host}")).collect::<Vec<_>>();
    let slice_of =
        |service: &str, endpoints: &[String]| slice(service, &[], &endpoints.iter().map(|e| &**e).collect::<Vec<_>>());
    cluster.apply_slice(Key::new("law", "db-1"), &slice_of("db", &addresses));
    let mut maps = Maps::default();
    apply(&mut maps, commit(&mut cluster));
    let own = cluster.shares.held().units;
    cluster.set_capacity(Size { units: 3 * own, ..Size::MAX });
    cluster.apply_service(Key::new("tenant", "big"), &wide("10.98.0.1", 2000));
    for i in 0..6 {
        let long = i.to_string().repeat(63);
        cluster.apply_service(Key::new("tenant", &format!("s{i}")), &headless());
        cluster.apply_slice(Key::new("tenant", &format!("s{i}-1")), &slice_of(&format!("s{i}"), &named(&long)));
    }
    apply(&mut maps, commit(&mut cluster));
    let passing = |ns: &str| cluster.largest_namespaces(10).iter().find(|h| &*h.namespace == ns).map(|h| h.passing);
    assert!(passing("tenant").is_some_and(|names| names > 0));
    assert_eq!(passing("law"), Some(0));
    assert_eq!(
        maps.ask("7.0.1.10.in-addr.arpa", 12).map(|reply| reply.answers.len()),
        Some(7),
        "the same as from CoreDNS"
    );
}

/// A large headless Service in maps with room for it: no name is withheld, and only its own name, whose addresses no message
/// holds, passes.
#[test]
fn a_large_headless_service_that_fits_is_answered() {
    let mut cluster = Cluster::new(config());
    cluster.set_capacity(names(MAX_RECORDS));
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    for s in 0..100 {
        let endpoints: Vec<String> = (0..100).map(|i| format!("10.1.{s}.{i}=pod-{s}-{i}")).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        cluster.apply_slice(Key::new("default", &format!("big-{s}")), &slice("big", &["http/TCP/80"], &endpoints));
    }
    let mut maps = Maps::default();
    apply(&mut maps, commit(&mut cluster));
    assert_eq!(cluster.withheld_names().0, 0);
    for s in 0..100 {
        assert!(is_answer(maps.ask(&format!("pod-{s}-{s}.big.default.svc.{ZONE}"), A)));
    }
    assert_eq!(maps.ask(&format!("big.default.svc.{ZONE}"), A), None, "no message holds all addresses");
    assert!(is_nxdomain(maps.ask(&format!("x.big.default.svc.{ZONE}"), A)));
}
