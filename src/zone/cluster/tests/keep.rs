//! Hidden objects: clusters with more items than the limits allow.

use super::coredns::{TYPES, World};
use super::kernel::Maps;
use super::order::{Random, apply_in_steps, probes};
use super::*;
use crate::zone::cluster::keep::{HiddenObjects, Limits, ObjectKind};
use crate::zone::cluster::share::MARGIN;

const A: u16 = 1;
const PTR: u16 = 12;
const NXDOMAIN: u16 = 3;

fn limited(all: usize, service: usize) -> Cluster {
    let mut cluster = Cluster::new(config());
    cluster.inventory.set_limits(Limits { all, service });
    cluster
}

/// Commits and applies all changes to the maps. Returns the number of changes.
fn commit(cluster: &mut Cluster, maps: &mut Maps) -> usize {
    let mut changes = cluster.commit();
    changes.append(&mut cluster.rest());
    let count = changes.len();
    changes.into_iter().for_each(|change| maps.apply(change));
    assert!(cluster.nodes() == *maps.all());
    count
}

/// Lists the wanted kinds again, as the daemon does. Returns the kinds that were listed.
fn list_wanted(cluster: &mut Cluster, maps: &mut Maps, world: &World) -> Vec<ObjectKind> {
    let mut listed = Vec::new();
    while let Some(kind) = cluster.kind_to_relist() {
        listed.push(kind);
        assert!(listed.len() <= 4, "{listed:?}");
        match kind {
            ObjectKind::Service => cluster.replace_services(world.services.clone()),
            ObjectKind::Slice => cluster.replace_slices(world.slices.clone()),
        }
        commit(cluster, maps);
    }
    listed
}

/// The hidden slices, as `namespace/name`.
fn hidden_slices(cluster: &Cluster) -> BTreeSet<String> {
    let hidden = cluster.slices.iter().filter(|(_, (_, slice))| slice.hidden.is_some());
    hidden.map(|(key, _)| format!("{}/{}", key.namespace, key.name)).collect()
}

/// A slice with `count` addresses in 10.`net`.0.0/16.
fn many(service: &str, net: u8, count: usize) -> SliceSpec {
    let endpoints: Vec<String> = (0..count).map(|i| format!("10.{net}.{}.{}", i >> 8, i & 255)).collect();
    slice(service, &["http/TCP/80"], &endpoints.iter().map(String::as_str).collect::<Vec<_>>())
}

fn answers(maps: &Maps, name: &str, qtype: u16) -> Option<usize> {
    maps.ask(name, qtype).map(|reply| reply.answers.len())
}

fn is_missing(maps: &Maps, name: &str) -> bool {
    maps.ask(name, A).is_some_and(|reply| reply.rcode == NXDOMAIN)
}

/// A tenant whose slices together exceed the limit of kept items, and small namespaces of others.
struct Tenant {
    world: World,
    cluster: Cluster,
    maps: Maps,
}

const KEPT: usize = 20_000;
const OTHERS: usize = 20;
const SLICES: usize = 12;

/// One of the tenant's slices, whose sizes differ by more than the margin.
fn large(i: usize) -> (Key, SliceSpec) {
    let service = if i.is_multiple_of(2) { "even" } else { "odd" };
    (Key::new("tenant", &format!("large-{i}")), many(service, 100 + i as u8, 1000 + 400 * i))
}

impl Tenant {
    fn new() -> Self {
        let mut world = World::default();
        for i in 0..OTHERS {
            let ns = format!("ns{i}");
            world.namespaces.insert(ns.clone());
            world.services.insert(Key::new(&ns, "web"), cluster_ip(&[&format!("10.96.0.{i}")], &["http/TCP/80"]));
            world.services.insert(Key::new(&ns, "db"), headless());
            let endpoints = [format!("10.1.{i}.1=db-0"), format!("10.1.{i}.2=db-1")];
            let endpoints = endpoints.each_ref().map(String::as_str);
            world.slices.insert(Key::new(&ns, "db-1"), slice("db", &["sql/TCP/5432"], &endpoints));
        }
        world.namespaces.insert("tenant".into());
        world.services.insert(Key::new("tenant", "even"), headless());
        world.services.insert(Key::new("tenant", "odd"), cluster_ip(&["10.96.1.1"], &["http/TCP/80"]));
        world.services.insert(Key::new("tenant", "small"), headless());
        world.slices.insert(Key::new("tenant", "small-1"), slice("small", &[], &["10.99.0.1"]));
        world.slices.extend((0..SLICES).map(large));
        let mut cluster = limited(KEPT, usize::MAX);
        cluster.replace_namespaces(&world.namespaces);
        cluster.replace_services(world.services.clone());
        cluster.replace_slices(world.slices.clone());
        let mut maps = Maps::default();
        commit(&mut cluster, &mut maps);
        Self { world, cluster, maps }
    }

    fn assert_other_namespaces_are_complete(&self) {
        for i in 0..OTHERS {
            assert_eq!(answers(&self.maps, &format!("web.ns{i}.svc.{ZONE}"), A), Some(1));
            assert_eq!(answers(&self.maps, &format!("db.ns{i}.svc.{ZONE}"), A), Some(2));
            assert_eq!(answers(&self.maps, &format!("db-1.db.ns{i}.svc.{ZONE}"), A), Some(1));
            assert_eq!(answers(&self.maps, &format!("{i}.0.96.10.in-addr.arpa"), PTR), Some(1));
            assert_eq!(answers(&self.maps, &format!("2.{i}.1.10.in-addr.arpa"), PTR), Some(1));
            assert!(is_missing(&self.maps, &format!("x.db.ns{i}.svc.{ZONE}")));
            assert!(is_missing(&self.maps, &format!("x.ns{i}.svc.{ZONE}")));
        }
        assert!(is_missing(&self.maps, &format!("x.tenant.svc.{ZONE}")), "the Services of its namespace are known");
    }

    fn put(&mut self, key: Key, spec: SliceSpec) {
        self.cluster.apply_slice(key.clone(), &spec);
        self.world.slices.insert(key, spec);
    }

    fn delete(&mut self, key: &Key) {
        self.cluster.delete_slice(key);
        self.world.slices.remove(key);
    }

    fn commit(&mut self) -> usize {
        commit(&mut self.cluster, &mut self.maps)
    }

    fn list_wanted(&mut self) -> Vec<ObjectKind> {
        list_wanted(&mut self.cluster, &mut self.maps, &self.world)
    }
}

#[test]
fn the_largest_objects_of_a_namespace_with_too_many_items_are_hidden_and_no_others() {
    let mut tenant = Tenant::new();
    // It has 38,445 items, the others have 240: it is 18,685 above the level. Its four largest objects have 19,204.
    let gone = ["large-8", "large-9", "large-10", "large-11"];
    assert_eq!(hidden_slices(&tenant.cluster), gone.map(|s| format!("tenant/{s}")).into());
    tenant.assert_other_namespaces_are_complete();
    let maps = &tenant.maps;
    assert_eq!(answers(maps, &format!("even.tenant.svc.{ZONE}"), A), None, "not all of its endpoints are known");
    assert_eq!(answers(maps, &format!("10-102-0-1.even.tenant.svc.{ZONE}"), A), None);
    assert_eq!(answers(maps, &format!("odd.tenant.svc.{ZONE}"), A), Some(1), "its cluster IP is known");
    assert_eq!(answers(maps, &format!("x.odd.tenant.svc.{ZONE}"), A), None, "it may be an endpoint of a hidden slice");
    assert_eq!(answers(maps, &format!("small.tenant.svc.{ZONE}"), A), Some(1));
    assert_eq!(answers(maps, "1.0.102.10.in-addr.arpa", PTR), Some(1), "its slice is kept");
    assert_eq!(answers(maps, "1.0.111.10.in-addr.arpa", PTR), None);

    let [holder, ..] = &tenant.cluster.largest_namespaces(3)[..] else { panic!("no namespaces") };
    assert_eq!((&*holder.namespace, holder.passing), ("tenant", tenant.cluster.hidden()));
    assert_eq!(holder.largest, Some(("large-11".into(), 5401)));
    let reports = tenant.cluster.newly_hidden();
    let [HiddenObjects { namespace, hidden, largest, .. }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((&**namespace, *hidden), ("tenant", tenant.cluster.hidden()));
    assert_eq!(*largest, (ObjectKind::Slice, "large-11".into(), 5401));
    assert_eq!(tenant.cluster.newly_hidden(), [], "each namespace is returned once");

    // Other namespaces grow, but stay smaller than the tenant's.
    for i in 0..OTHERS {
        tenant.put(Key::new(&format!("ns{i}"), "db-2"), many("db", i as u8 + 20, 300));
    }
    tenant.commit();
    assert!(hidden_slices(&tenant.cluster).iter().all(|name| name.starts_with("tenant/")));
    assert!(hidden_slices(&tenant.cluster).len() > gone.len());
    for i in 0..OTHERS {
        assert_eq!(answers(&tenant.maps, &format!("10-{}-1-1.db.ns{i}.svc.{ZONE}", i + 20), A), Some(1));
        tenant.delete(&Key::new(&format!("ns{i}"), "db-2"));
    }
    tenant.commit();
    assert_eq!(tenant.list_wanted(), [ObjectKind::Slice]);
    let mut with_margin: BTreeSet<String> = gone.map(|s| format!("tenant/{s}")).into();
    with_margin.insert("tenant/large-7".into());
    assert_eq!(hidden_slices(&tenant.cluster), with_margin);

    // The slices that are left fit.
    for i in (0..4).chain(9..SLICES) {
        tenant.delete(&large(i).0);
    }
    tenant.commit();
    assert_eq!(answers(&tenant.maps, &format!("odd.tenant.svc.{ZONE}"), A), Some(1));
    assert_eq!(tenant.list_wanted(), [ObjectKind::Slice], "hidden slices that fit have to be listed again");
    assert_eq!((hidden_slices(&tenant.cluster).len(), tenant.cluster.hidden()), (0, 0));
    let fresh = Maps::new(tenant.world.build(config()).1);
    assert!(tenant.maps.all() == fresh.all());
    tenant.assert_other_namespaces_are_complete();
}

/// A hidden slice that lists another namespace's address adds a target to the reverse name, which is not known.
#[test]
fn reverse_names_of_addresses_in_hidden_slices_pass() {
    let mut tenant = Tenant::new();
    let db = "2.3.1.10.in-addr.arpa";
    assert_eq!(answers(&tenant.maps, db, PTR), Some(1));
    let (key, mut spec) = large(11);
    let address = |text: &str| EndpointSpec { addresses: vec![text.into()], hostname: None, ready: true };
    spec.endpoints.extend(["10.1.3.2", "10.96.0.3"].map(address));
    tenant.put(key, spec);
    tenant.commit();
    assert_eq!(answers(&tenant.maps, db, PTR), None, "CoreDNS has two targets for it");
    assert_eq!(answers(&tenant.maps, "3.0.96.10.in-addr.arpa", PTR), Some(1), "CoreDNS answers with the Service alone");
    assert_eq!(answers(&tenant.maps, "2.4.1.10.in-addr.arpa", PTR), Some(1));
    assert!(
        tenant.cluster.withholds(&Name::parse("1.10.in-addr.arpa").unwrap()),
        "static wildcards below it are suspended"
    );

    // The slice that is kept is deleted and created again.
    let (db_key, db_spec) = (Key::new("ns3", "db-1"), tenant.world.slices[&Key::new("ns3", "db-1")].clone());
    tenant.delete(&db_key);
    tenant.commit();
    tenant.put(db_key, db_spec);
    tenant.commit();
    assert_eq!(answers(&tenant.maps, db, PTR), None);

    let (key, spec) = large(11);
    tenant.put(key.clone(), spec);
    tenant.commit();
    assert!(hidden_slices(&tenant.cluster).contains("tenant/large-11"));
    tenant.assert_other_namespaces_are_complete();
    (0..SLICES).for_each(|i| tenant.delete(&large(i).0));
    tenant.commit();
    assert!(!tenant.cluster.withholds(&Name::parse("1.10.in-addr.arpa").unwrap()));
}

#[test]
fn lists_in_any_order_hide_the_same_objects_and_change_nothing() {
    let mut tenant = Tenant::new();
    let mut slices: Vec<_> = tenant.world.slices.clone().into_iter().collect();
    let mut random = Random(7);
    for _ in 0..3 {
        tenant.cluster.replace_slices(slices.clone());
        assert_eq!(tenant.commit(), 0);
        assert_eq!(tenant.cluster.kind_to_relist(), None);
        (1..slices.len()).for_each(|i| slices.swap(i, random.below(i + 1)));
        // A new daemon, to which the list comes in parts.
        let mut other = limited(KEPT, usize::MAX);
        other.replace_namespaces(&tenant.world.namespaces);
        for part in slices.chunks(3) {
            other.list_slices(part.to_vec());
        }
        other.end_slices();
        other.replace_services(tenant.world.services.clone());
        other.commit();
        assert_eq!(hidden_slices(&other), hidden_slices(&tenant.cluster));
        assert_eq!(other.kind_to_relist(), None);
        // Reverse names are left out: by chance, one address in thousands looks as if a hidden slice had it.
        let names = |nodes: HashMap<Name, Node>| -> BTreeSet<Name> {
            nodes.into_keys().filter(|name| name.is_within(&config().zone)).collect()
        };
        assert!(names(other.nodes()) == names(tenant.maps.all().clone()));
    }
}

#[test]
fn hidden_objects_come_back_only_if_there_is_room_to_spare() {
    let mut tenant = Tenant::new();
    let before = hidden_slices(&tenant.cluster);
    let last = large(8);
    assert!(before.contains("tenant/large-8"));
    let room = |tenant: &Tenant| {
        let objects = tenant.world.services.len() + tenant.world.slices.len();
        let kept: usize = tenant.cluster.objects.services.values().map(|entry| entry.items).sum();
        KEPT + tenant.cluster.hidden() - kept - 2 * objects
    };
    // Make just enough room for it.
    tenant.delete(&large(0).0);
    let needed = last.1.endpoints.len() + 1 - room(&tenant);
    let (key, spec) = large(7);
    let smaller = |less: usize| {
        let mut spec = spec.clone();
        spec.endpoints.truncate(spec.endpoints.len() - less);
        spec
    };
    tenant.put(key.clone(), smaller(needed + 1));
    tenant.commit();
    assert_eq!(tenant.cluster.kind_to_relist(), None, "it fits only without the margin");
    tenant.put(key.clone(), spec.clone());
    tenant.commit();
    assert_eq!(hidden_slices(&tenant.cluster), before);
    tenant.put(key, smaller(needed + KEPT / MARGIN + 1));
    tenant.commit();
    assert_eq!(tenant.list_wanted(), [ObjectKind::Slice]);
    assert!(!hidden_slices(&tenant.cluster).contains("tenant/large-8"));
}

#[test]
fn a_service_with_too_many_items_is_hidden_even_if_there_is_room() {
    let mut cluster = limited(1 << 20, 1000);
    let (mut world, mut maps) = (World::default(), Maps::default());
    world.namespaces.insert("default".into());
    let wide = |ports: usize| {
        let ports = (0..ports).map(|i| PortSpec { name: format!("p{i}"), protocol: "TCP".into(), port: Some(80) });
        ServiceSpec { external_name: None, cluster_ips: vec!["10.96.0.1".into()], ports: ports.collect() }
    };
    world.services.insert(Key::new("default", "wide"), wide(1001));
    world.services.insert(Key::new("default", "web"), cluster_ip(&["10.96.0.2"], &["http/TCP/80"]));
    world.services.insert(Key::new("default", "alias"), external("wide.default.svc.cluster.local"));
    cluster.replace_namespaces(&world.namespaces);
    cluster.replace_services(world.services.clone());
    commit(&mut cluster, &mut maps);
    assert_eq!(answers(&maps, &format!("wide.default.svc.{ZONE}"), A), None);
    assert_eq!(answers(&maps, &format!("x.y.wide.default.svc.{ZONE}"), A), None);
    assert_eq!(answers(&maps, &format!("alias.default.svc.{ZONE}"), A), None, "its target is not known");
    assert_eq!(answers(&maps, "1.0.96.10.in-addr.arpa", PTR), Some(1));
    assert_eq!(answers(&maps, &format!("web.default.svc.{ZONE}"), A), Some(1));
    assert!(is_missing(&maps, &format!("x.default.svc.{ZONE}")));
    assert_eq!(cluster.newly_hidden().len(), 1);

    cluster.replace_services(world.services.clone());
    assert_eq!(commit(&mut cluster, &mut maps), 0);
    world.services.insert(Key::new("default", "wide"), wide(900));
    cluster.apply_service(Key::new("default", "wide"), &wide(900));
    commit(&mut cluster, &mut maps);
    assert!(maps.all() == Maps::new(world.build(config()).1).all());
    // With a slice it has too many items again: the larger of the two is hidden.
    let spec = many("wide", 1, 200);
    cluster.apply_slice(Key::new("default", "wide-1"), &spec);
    world.slices.insert(Key::new("default", "wide-1"), spec);
    commit(&mut cluster, &mut maps);
    assert!(hidden_slices(&cluster).is_empty() && cluster.hidden() == 900);
    cluster.delete_slice(&Key::new("default", "wide-1"));
    world.slices.clear();
    commit(&mut cluster, &mut maps);
    assert_eq!(list_wanted(&mut cluster, &mut maps, &world), [ObjectKind::Service]);
    assert!(maps.all() == Maps::new(world.build(config()).1).all());
}

/// After each change of a random history: every query gets its old or its new answer or passes, no answer differs from CoreDNS',
/// and queries for Services that have no hidden objects and are no aliases are answered.
#[test]
fn every_query_gets_its_old_or_new_answer_or_passes_where_objects_are_hidden() {
    let probes: Vec<(String, Name)> = probes().into_iter().map(|p| (p.clone(), Name::parse(&p).unwrap())).collect();
    let (mut hiding, mut passed, mut wanted) = (0, 0, 0);
    for seed in 1..=8 {
        let (mut random, mut world, mut cluster) = (Random(seed), World::default(), limited(usize::MAX, usize::MAX));
        let mut maps = Maps::default();
        for round in 0..25 {
            let (all, service) = (20 + random.below(60), 8 + random.below(12));
            cluster.inventory.set_limits(Limits { all, service });
            (0..=random.below(5)).for_each(|_| random.event(&mut world, &mut cluster));
            let is_wanted = cluster.kind_to_relist().is_some() && random.below(2) == 0;
            if is_wanted {
                wanted += 1;
                cluster.replace_services(world.services.clone());
                cluster.replace_slices(world.slices.clone());
            }
            let mut changes = cluster.commit();
            changes.append(&mut cluster.rest());
            apply_in_steps(&mut maps, changes, &probes, true, || {
                format!("seed {seed}, round {round}\n{}", world.describe())
            });
            assert!(cluster.nodes() == *maps.all(), "seed {seed}, round {round}");
            for (text, name) in &probes {
                assert_eq!(cluster.node(name).as_ref(), maps.all().get(name), "seed {seed}, round {round}: {name}");
                let labels = labels_in(name, &cluster.renderer.config.zone);
                let is_whole = match labels.as_deref() {
                    Some([.., service, namespace, "svc"]) => {
                        let entry = cluster.objects.services.get(&Key::new(namespace, service));
                        let is_alias = entry.is_some_and(|e| e.depends_on(&cluster.renderer.config.zone).is_some());
                        let has_hidden = |e: &Entry| {
                            let service = e.service.as_deref();
                            matches!(service, Some(model::Service::Hidden { .. })) || e.is_opaque()
                        };
                        !is_alias && !entry.is_some_and(has_hidden)
                    }
                    Some(_) => true,
                    None => cluster.inventory.mark_table.is_empty(),
                };
                for qtype in TYPES {
                    let (got, expected) = (maps.ask(text, qtype), world.expected(text, qtype));
                    let passes = got.is_none() && expected.is_some();
                    passed += usize::from(passes);
                    assert!(
                        got == expected || passes && !is_whole,
                        "seed {seed}, round {round}: {text} {qtype}: {got:?}, not {expected:?}\n{}",
                        world.describe()
                    );
                }
            }
            hiding += usize::from(cluster.hidden() > 0);
        }
        cluster.inventory.set_limits(Limits { all: usize::MAX, service: usize::MAX });
        commit(&mut cluster, &mut maps);
        list_wanted(&mut cluster, &mut maps, &world);
        assert!(maps.all() == Maps::new(world.build(config()).1).all(), "seed {seed}");
    }
    assert!(
        hiding > 50 && passed > 1000 && wanted > 10,
        "{hiding} rounds with hidden objects, {passed} queries passed, {wanted} lists of wanted objects"
    );
}
