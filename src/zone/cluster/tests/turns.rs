//! Commits of some of the changes: negative answers of namespaces with waiting changes are behind a gate, and small namespaces
//! do not wait for large ones.

use super::coredns::{TYPES, World};
use super::kernel::Maps;
use super::order::{answers_of, probes};
use super::*;

/// The namespace of a name in the zone.
fn namespace_of(name: &str) -> Option<&str> {
    let labels: Vec<&str> = name.strip_suffix(ZONE)?.trim_end_matches('.').split('.').collect();
    let [.., namespace, _] = labels[..] else { return None };
    Some(namespace)
}

/// After random events, commits of some of the changes: names of namespaces without waiting changes have CoreDNS' answers. In
/// other namespaces negative answers that differ from CoreDNS' are behind the gate of the namespace. After a last commit of
/// all changes the maps have the nodes of a new index.
#[test]
fn wrong_negative_answers_are_behind_the_gate_of_a_waiting_namespace() {
    let (mut held_back, mut waited) = (0, 0);
    for seed in 1..=8 {
        let (mut random, mut world, mut cluster) = (Random(seed), World::default(), Cluster::new(config()));
        let mut maps = Maps::default();
        for commit in 0..30 {
            for _ in 0..=random.below(5) {
                random.event(&mut world, &mut cluster);
            }
            let take = match random.below(3) {
                0 => Take::Least(random.below(12)),
                1 => Take::Oldest(random.below(4)),
                _ => Take::Least(0),
            };
            let changes = cluster.commit_some(take);
            let names: HashSet<&Name> = changes.iter().map(Change::name).collect();
            assert_eq!(names.len(), changes.len(), "a name is changed twice");
            changes.into_iter().for_each(|change| maps.apply(change));
            let waiting = cluster.waiting();
            waited += waiting.len();
            for text in probes() {
                // Reverse names have no negative answers.
                let Some(namespace) = namespace_of(&text) else { continue };
                let waiting = waiting.iter().find(|waiting| *waiting.namespace == *namespace);
                let name = Name::parse(&text).unwrap();
                for qtype in TYPES {
                    let (got, expected) = (maps.ask(&text, qtype), world.expected(&text, qtype));
                    let why = || format!("seed {seed}, commit {commit}: {text} {qtype}\n{}", world.describe());
                    let Some(waiting) = waiting else {
                        assert_eq!(got, expected, "{}", why());
                        continue;
                    };
                    if got.is_some_and(|got| got.answers.is_empty() && Some(&got) != expected.as_ref()) {
                        held_back += 1;
                        assert_eq!(gate_of(&maps, &name), waiting.gate, "{}", why());
                    }
                }
            }
        }
        cluster.commit().into_iter().for_each(|change| maps.apply(change));
        assert_eq!(cluster.waiting(), []);
        let (_, changes) = world.build(config());
        assert!(maps.all() == Maps::new(changes).all(), "seed {seed}");
    }
    assert!(held_back > 20 && waited > 50, "{held_back} held back, {waited} waited");
}

/// The gate of a name's negative answers.
fn gate_of(maps: &Maps, name: &Name) -> u8 {
    let (own, fallback) = answers_of(maps, name).unwrap();
    fallback.map_or(own.gate, |fallback| fallback.gate)
}

/// Four headless Services with 500 endpoints each in the namespace `heavy`.
fn heavy(cluster: &mut Cluster, net: usize) {
    for s in 0..4 {
        let endpoints: Vec<String> = (0..500).map(|i| format!("10.{net}.{}.{}", s * 2 + i / 250, i % 250)).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let of = format!("big-{s}");
        cluster.apply_service(Key::new("heavy", &of), &headless());
        cluster.apply_slice(Key::new("heavy", &of), &slice(&of, &["http/TCP/80"], &endpoints));
    }
}

/// The Service with the number `i` in the namespace `light`.
fn light(cluster: &mut Cluster, i: usize) {
    let address = format!("10.96.0.{i}");
    cluster.apply_service(Key::new("light", &format!("web-{i}")), &cluster_ip(&[&address], &["http/TCP/80"]));
}

#[test]
fn small_namespaces_do_not_wait_for_large_ones() {
    let mut cluster = Cluster::new(config());
    ["light", "heavy"].iter().for_each(|namespace| cluster.apply_namespace(namespace));
    cluster.commit();
    heavy(&mut cluster, 1);
    // Columns: the number of the Service that is added to `light`, the changes that the commit takes, the number of names that
    // it changes in `light` and in `heavy`, and the namespaces that wait afterwards.
    for (i, take, names, wanted) in [
        (0, Take::Least(600), [2, 502], &["heavy"][..]),
        (1, Take::Least(500), [2, 0], &["heavy"]),
        (2, Take::Oldest(1), [0, 502], &["heavy", "light"]),
        (3, Take::Least(500), [4, 0], &["heavy"]),
        (4, Take::Oldest(1), [0, 502], &["heavy", "light"]),
        (5, Take::Oldest(1), [0, 502], &["light"]),
        (6, Take::Oldest(600), [6, 0], &[]),
    ] {
        light(&mut cluster, i);
        let changes = cluster.commit_some(take);
        let count = |part: &str| changes.iter().filter(|change| change.name().to_string().contains(part)).count();
        assert_eq!([".light.svc.", ".heavy.svc."].map(count), names, "{i}");
        let mut waiting: Vec<Box<str>> = cluster.waiting().into_iter().map(|n| n.namespace).collect();
        waiting.sort();
        assert_eq!(waiting.iter().map(|namespace| &**namespace).collect::<Vec<_>>(), wanted, "{i}");
    }
    assert_eq!(cluster.commit(), []);
}

/// An alias waits for its own namespace, but not for that of its target.
#[test]
fn aliases_do_not_wait_for_their_targets() {
    let mut cluster = Cluster::new(config());
    ["light", "heavy"].iter().for_each(|namespace| cluster.apply_namespace(namespace));
    cluster.apply_service(Key::new("light", "alias"), &external("big-1.heavy.svc.cluster.local"));
    cluster.commit();
    heavy(&mut cluster, 1);
    let changes = cluster.commit_some(Take::Least(10));
    let alias = Name::parse("alias.light.svc.cluster.local").unwrap();
    let node = changes.iter().find_map(|change| match change {
        Change::Put(name, node) if *name == alias => Some(node),
        _ => None,
    });
    // No message holds all addresses, so queries for them pass; before, the target had none.
    assert!(node.unwrap().types.iter().any(|(qtype, _)| *qtype == 1), "{changes:?}");
    assert_eq!(cluster.waiting().iter().map(|b| &*b.namespace).collect::<Vec<_>>(), ["heavy"]);
}

/// `node` and `nodes` return the committed state while other changes wait.
#[test]
fn a_name_with_waiting_changes_keeps_its_node() {
    let mut cluster = Cluster::new(config());
    ["light", "heavy"].iter().for_each(|namespace| cluster.apply_namespace(namespace));
    heavy(&mut cluster, 1);
    let mut maps = Maps::new(cluster.commit());
    heavy(&mut cluster, 2);
    cluster.delete_service(&Key::new("heavy", "big-3"));
    cluster.commit_some(Take::Least(10)).into_iter().for_each(|change| maps.apply(change));
    assert!(cluster.nodes() == *maps.all());
    for name in ["big-3.heavy.svc.cluster.local", "10-1-0-1.big-0.heavy.svc.cluster.local"] {
        let name = Name::parse(name).unwrap();
        assert_eq!(cluster.node(&name).as_ref(), maps.all().get(&name), "{name}");
        assert!(maps.all().contains_key(&name), "{name}");
    }
    // A new configuration changes committed nodes and leaves waiting changes alone.
    let other = ClusterConfig { ttl: 5, ..config() };
    cluster.reconfigure(other).into_iter().for_each(|change| maps.apply(change));
    assert!(cluster.nodes() == *maps.all());
    assert_eq!(cluster.waiting().len(), 1);
    cluster.commit().into_iter().for_each(|change| maps.apply(change));
    assert!(cluster.nodes() == *maps.all());
}

#[test]
fn a_waiting_namespace_has_the_time_of_its_oldest_change() {
    let mut cluster = Cluster::new(config());
    cluster.apply_namespace("heavy");
    cluster.commit();
    let (first, second) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
    cluster.set_arrival(first);
    cluster.apply_service(Key::new("heavy", "one"), &headless());
    cluster.set_arrival(second);
    cluster.apply_service(Key::new("heavy", "two"), &headless());
    let since = |cluster: &Cluster| cluster.waiting().into_iter().map(|b| b.since).collect::<Vec<_>>();
    assert_eq!(since(&cluster), [Some(first)]);
    cluster.commit_some(Take::Oldest(0));
    assert_eq!(since(&cluster), [Some(second)]);
    cluster.set_late();
    assert_eq!(since(&cluster), [None]);
}
