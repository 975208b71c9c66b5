//! `PassNames`, and changes of the configuration.

use super::coredns::*;
use super::kernel::Maps;
use super::*;

fn world() -> World {
    let mut world = World { namespaces: ["default", "dev"].map(String::from).into(), ..World::default() };
    for (ns, name, spec) in [
        ("default", "web", cluster_ip(&["10.96.0.10"], &["http/TCP/80"])),
        ("dev", "web", cluster_ip(&["10.96.0.11"], &["http/TCP/80"])),
        ("default", "to-web", external("web.default.svc.cluster.local")),
    ] {
        world.services.insert(Key::new(ns, name), spec);
    }
    world
}

fn with(pass: &[&str]) -> ClusterConfig {
    let mut config = config();
    pass.iter().for_each(|p| config.pass.add(p).unwrap());
    config
}

#[test]
fn pass_names_pass_and_change_nothing_else() {
    let world = world();
    let config = with(&[
        "web.default.svc.cluster.local",
        "nothing.cluster.local",
        "*.dev.svc.cluster.local",
        "*.gone.svc.cluster.local",
        "10.0.96.10.in-addr.arpa",
    ]);
    let maps = Maps::new(world.build(config.clone()).1);
    let names = [
        "web.default.svc",
        "_http._tcp.web.default.svc",
        "x.web.default.svc",
        "nothing",
        "x.nothing",
        "y.x.nothing",
        "other",
        "x.other",
        "dev.svc",
        "web.dev.svc",
        "_http._tcp.web.dev.svc",
        "x.y.z.dev.svc",
        "gone.svc",
        "x.gone.svc",
        "y.x.gone.svc",
        "svc",
        "to-web.default.svc",
    ];
    // Names below a pass name pass with it. The suffix of a namespace that does not exist has a node of its own.
    let open = ["x.nothing", "y.x.nothing", "gone.svc"];
    for relative in names {
        let name = format!("{relative}.{ZONE}");
        for qtype in TYPES {
            let covered = config.pass.covers(&Name::parse(&name).unwrap()) || open.contains(&relative);
            let follows = relative == "to-web.default.svc" && matches!(qtype, A | AAAA);
            let expected = world.expected(&name, qtype).filter(|_| !covered && !follows);
            assert_eq!(maps.ask(&name, qtype), expected, "{name} {qtype}");
        }
    }
    assert_eq!(maps.ask("10.0.96.10.in-addr.arpa", PTR), None);
    assert!(maps.ask("11.0.96.10.in-addr.arpa", PTR).is_some());
}

#[test]
fn a_pass_name_keeps_a_node_when_its_service_is_deleted() {
    let mut cluster = world().build(with(&["web.default.svc.cluster.local"])).0;
    let name = Name::parse("web.default.svc.cluster.local").unwrap();
    cluster.delete_service(&Key::new("default", "web"));
    let changes = cluster.commit();
    assert!(changes.contains(&Change::Put(name.clone(), Node::pass(ZoneId::Cluster))), "{changes:?}");
    assert_eq!(cluster.node(&name), Some(Node::pass(ZoneId::Cluster)));
}

#[test]
fn a_new_configuration_gives_the_nodes_of_a_new_index() {
    let world = world();
    let all = [
        config(),
        with(&["*.dev.svc.cluster.local", "nothing.cluster.local"]),
        ClusterConfig { ttl: 5, ..config() },
        ClusterConfig { negative_answers: false, ..config() },
        with(&["*.cluster.local", "cluster.local"]),
        ClusterConfig { zone: Name::parse("svc.cluster.local").unwrap(), ..config() },
    ];
    let (mut cluster, changes) = world.build(config());
    let mut maps = Maps::new(changes);
    for config in all.iter().chain(all.iter().rev()) {
        cluster.reconfigure(config.clone()).into_iter().for_each(|c| maps.apply(c));
        assert!(maps.all() == Maps::new(world.build(config.clone()).1).all(), "{config:?}");
    }
    assert_eq!(cluster.reconfigure(config()), []);
}

#[test]
fn ttls_are_those_of_the_configuration() {
    let maps = Maps::new(world().build(ClusterConfig { ttl: 600, ..config() }).1);
    let reply = maps.ask("web.default.svc.cluster.local", A).unwrap();
    assert!(reply.answers.iter().all(|a| a.contains(" 600 A ")), "{reply:?}");
    // CoreDNS limits the TTL of the SOA record itself to five minutes.
    let reply = maps.ask("missing.cluster.local", A).unwrap();
    let soa = reply.authorities.first().unwrap();
    assert!(soa.starts_with("cluster.local. 300 SOA ") && soa.ends_with(" 600"), "{soa}");
}

#[test]
fn the_placeholder_is_removed_if_the_whole_zone_passes_by_a_new_configuration() {
    let mut cluster = Cluster::new(config());
    let zone = Name::parse(ZONE).unwrap();
    assert!(matches!(&cluster.announce()[..], [Change::Put(name, _)] if *name == zone));
    let changes = cluster.reconfigure(with(&["*.local"]));
    assert_eq!(changes, [Change::Remove(zone)]);
    assert_eq!(cluster.commit(), []);
}
