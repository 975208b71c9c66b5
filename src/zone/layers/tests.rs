use std::net::IpAddr;

use super::*;
use crate::zone::cluster::ClusterConfig;
use crate::zone::cluster::share::Size;
use crate::zone::cluster::spec::{Key, PortSpec, ServiceSpec};
use crate::zone::lookup::Nodes;
use crate::zone::node::AnswerKind;
use crate::zone::statics::{self, StaticEntry};

const A: u16 = 1;
const AAAA: u16 = 28;

/// The result of a query for A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    /// An address that ends in this octet.
    Address(u8),
    Nodata,
    Nxdomain,
    Pass,
}
use Got::{Address, Nodata, Nxdomain, Pass};

fn name(text: &str) -> Name {
    let zone = if text.ends_with('.') { "cluster.local" } else { "" };
    Name::parse(&format!("{text}{zone}")).unwrap()
}

/// A static entry `name` or `*.name` with an address that ends in `octet`.
fn entry(text: &str, octet: u8) -> StaticEntry {
    let (text, wildcard) = text.strip_prefix("*.").map_or((text, false), |n| (n, true));
    let addresses = vec![IpAddr::from([192, 0, 2, octet])];
    StaticEntry {
        name: if text.is_empty() { name("cluster.local") } else { name(text) },
        wildcard,
        addresses,
        ttl: None,
        authoritative: false,
    }
}

fn pass_names(texts: &[&str]) -> PassNames {
    let mut pass = PassNames::default();
    texts.iter().for_each(|n| pass.add(&format!("{n}.cluster.local")).unwrap());
    pass
}

struct Lab {
    cluster: Cluster,
    layers: Layers,
    maps: Nodes,
}

impl Lab {
    fn empty(pass: &[&str]) -> Self {
        let pass = pass_names(pass);
        let settings = ClusterConfig { zone: name("cluster.local"), ttl: 30, negative_answers: true, serial: 1, pass };
        Self { cluster: Cluster::new(settings), layers: Layers::new(name("cluster.local")), maps: Nodes::default() }
    }

    /// A cluster with the namespace `default` and the Service `web`, whose address ends in 1.
    fn new(pass: &[&str]) -> Self {
        let mut lab = Self::empty(pass);
        lab.cluster.apply_namespace("default");
        lab.serve("web", 1);
        lab.commit();
        lab
    }

    fn serve(&mut self, service: &str, octet: u8) {
        let ports = vec![PortSpec { name: "http".into(), protocol: "TCP".into(), port: Some(80) }];
        let spec = ServiceSpec { cluster_ips: vec![format!("10.96.0.{octet}")], ports, ..ServiceSpec::default() };
        self.cluster.apply_service(Key::new("default", service), &spec);
    }

    fn apply(&mut self, changes: Vec<Change>) {
        // Each name that changes, and a name one and two labels below it.
        let names: Vec<Name> = changes.iter().map(|c| c.name().clone()).collect();
        let probes: Vec<Name> = names
            .iter()
            .flat_map(|n| [Some(n.clone()), n.child("q").ok(), n.child("q").and_then(|n| n.child("q")).ok()])
            .flatten()
            .collect();
        let before: Vec<Got> = probes.iter().map(|n| self.ask_name(n)).collect();
        let mut end = self.maps.clone();
        changes.iter().cloned().for_each(|c| end.apply(c));
        let after: Vec<Got> = probes.iter().map(|n| ask(&end, n)).collect();
        for change in changes {
            self.maps.apply(change);
            for (i, probe) in probes.iter().enumerate() {
                let now = self.ask_name(probe);
                assert!(
                    now == before[i] || now == after[i],
                    "{probe}: {now:?} is neither {:?} nor {:?}",
                    before[i],
                    after[i]
                );
            }
        }
    }

    fn commit(&mut self) {
        let changes = self.layers.commit(&mut self.cluster, Take::All);
        self.apply(changes);
    }

    fn statics(&mut self, entries: &[StaticEntry], pass: &[&str]) {
        let pass = pass_names(pass);
        let nodes = statics::nodes(entries, &pass, 30);
        let changes = self.layers.set_statics(nodes, &pass, &self.cluster);
        self.apply(changes);
    }

    fn ask_name(&self, name: &Name) -> Got {
        ask(&self.maps, name)
    }

    /// Asks for a name in the cluster's zone; `relative` ends in a dot.
    fn ask(&self, relative: &str) -> Got {
        self.ask_name(&name(relative))
    }

    /// The set of names whose gates apply to the answer.
    fn zone(&self, relative: &str, qtype: u16) -> Option<ZoneId> {
        self.maps.look_up(&name(relative), qtype).ok().map(|found| found.zone)
    }
}

fn ask(maps: &Nodes, name: &Name) -> Got {
    maps.look_up(name, A).map_or(Pass, |found| match found.answer.kind {
        AnswerKind::Answer => Address(found.answer.bytes[found.answer.bytes.len() - 1]),
        AnswerKind::Nodata => Nodata,
        AnswerKind::Nxdomain => Nxdomain,
    })
}

#[test]
fn static_names_hide_the_clusters_until_they_are_removed() {
    let mut lab = Lab::new(&[]);
    lab.statics(&[entry("web.default.svc.", 77), entry("svc.", 78), entry("x.example", 79)], &[]);
    assert_eq!(lab.ask("web.default.svc."), Address(77));
    assert_eq!(lab.ask("svc."), Address(78));
    // Names below are still the cluster's.
    assert_eq!(lab.ask("_http._tcp.web.default.svc."), Address(1));
    assert_eq!(lab.ask("x.web.default.svc."), Nxdomain);
    assert_eq!(lab.ask("gone.svc."), Nxdomain);
    // Changes of the cluster take effect when the static name is removed.
    lab.serve("web", 2);
    lab.commit();
    assert_eq!(lab.ask("web.default.svc."), Address(77));
    lab.statics(&[], &[]);
    assert_eq!(lab.ask("web.default.svc."), Address(2));
    assert_eq!(lab.ask("svc."), Nodata);
    assert_eq!(lab.maps.all().len(), lab.cluster_len());
}

impl Lab {
    /// The number of names of the cluster in the maps.
    fn cluster_len(&self) -> usize {
        self.maps.all().keys().filter(|n| self.cluster.node(n).is_some()).count()
    }
}

#[test]
fn before_the_first_commit_the_placeholder_answers_all_names_but_static_ones() {
    let statics = [entry("web.default.svc.", 77), entry("x.late.default.svc.", 78), entry("*.apps.", 79)];
    let mut known = Lab::new(&[]);
    known.statics(&statics, &[]);

    let mut lab = Lab::empty(&[]);
    lab.statics(&statics, &[]);
    assert_eq!(lab.ask("foo."), Pass);
    let changes = lab.layers.merge(lab.cluster.announce());
    lab.apply(changes);
    lab.statics(&[entry("", 1), entry("10-0-0-1.default.pod.", 2), entry("web.default.svc.", 3)], &[]);
    assert_eq!(lab.ask("foo."), Nxdomain);
    lab.statics(&statics, &[]);
    // The placeholder answers, wherever static names lie: the zone's gates hold it back.
    for held in ["foo.", "svc.", "default.svc.", "other.default.svc.", "x.y.z.svc.", "late.default.svc.", "ns.dns."] {
        assert_eq!(lab.ask(held), Nxdomain, "{held}");
    }
    assert_eq!(lab.ask("web.default.svc."), Address(77));
    assert_eq!(lab.ask("x.apps."), Address(79));
    lab.cluster.apply_namespace("default");
    lab.serve("web", 1);
    lab.commit();
    assert!(lab.maps == known.maps);
}

#[test]
fn static_names_without_a_service_exist_beside_the_clusters() {
    let mut lab = Lab::new(&[]);
    lab.statics(&[entry("foo.bar.", 7), entry("new.default.svc.", 8), entry("x.late.default.svc.", 9)], &[]);
    assert_eq!(lab.ask("foo.bar."), Address(7));
    // An empty non-terminal exists because of the name below it.
    assert_eq!(lab.ask("bar."), Pass);
    assert_eq!(lab.ask("late.default.svc."), Pass);
    assert_eq!(lab.ask("baz."), Nxdomain);
    assert_eq!(lab.ask("old.default.svc."), Nxdomain);
    assert_eq!(lab.ask("new.default.svc."), Address(8));
    assert_eq!(lab.ask("x.late.default.svc."), Address(9));
    lab.serve("late", 5);
    lab.serve("new", 6);
    lab.commit();
    assert_eq!(lab.ask("late.default.svc."), Address(5));
    assert_eq!(lab.ask("new.default.svc."), Address(8));
    assert_eq!(lab.ask("_http._tcp.new.default.svc."), Address(6));
    assert_eq!(lab.ask("y.late.default.svc."), Nxdomain);
    lab.cluster.delete_service(&Key::new("default", "late"));
    lab.cluster.delete_service(&Key::new("default", "new"));
    lab.commit();
    assert_eq!(lab.ask("late.default.svc."), Pass);
    assert_eq!(lab.ask("x.late.default.svc."), Address(9));
    assert_eq!(lab.ask("new.default.svc."), Address(8));
    lab.statics(&[], &[]);
    assert_eq!(lab.ask("late.default.svc."), Nxdomain);
    assert_eq!(lab.ask("bar."), Nxdomain);
}

#[test]
fn static_wildcards_cover_labels_between_a_service_and_its_ports() {
    let mut lab = Lab::new(&[]);
    lab.statics(&[entry("*.web.default.svc.", 50)], &[]);
    for (name, got) in [
        ("x.web.default.svc.", Address(50)),
        ("_tcp.web.default.svc.", Address(50)),
        ("x._tcp.web.default.svc.", Address(50)),
        ("web.default.svc.", Address(1)),
        ("_http._tcp.web.default.svc.", Address(1)),
        ("x._http._tcp.web.default.svc.", Pass),
    ] {
        assert_eq!(lab.ask(name), got, "{name}");
    }
    // A wildcard above the Service does not cover names below it.
    lab.statics(&[entry("*.default.svc.", 50)], &[]);
    let below =
        [("x.web.default.svc.", Nxdomain), ("_tcp.web.default.svc.", Nxdomain), ("x._tcp.web.default.svc.", Pass)];
    for (name, got) in below {
        assert_eq!(lab.ask(name), got, "{name}");
    }
}

#[test]
fn static_wildcards_do_not_cover_names_of_the_cluster() {
    let mut lab = Lab::new(&[]);
    lab.statics(&[entry("*.", 50), entry("*.default.svc.", 51), entry("*.apps.", 52)], &[]);
    assert_eq!(lab.ask("foo."), Address(50));
    assert_eq!(lab.ask("bar.foo."), Address(50));
    assert_eq!(lab.ask("x.apps."), Address(52));
    assert_eq!(lab.ask("apps."), Pass);
    assert_eq!(lab.ask("svc."), Nodata);
    assert_eq!(lab.ask("gone.svc."), Nxdomain);
    assert_eq!(lab.ask("dns."), Pass);
    assert_eq!(lab.ask("ns.dns."), Pass);
    assert_eq!(lab.ask("default.svc."), Nodata);
    assert_eq!(lab.ask("web.default.svc."), Address(1));
    assert_eq!(lab.ask("other.default.svc."), Address(51));
    assert_eq!(lab.ask("x.web.default.svc."), Nxdomain);
    lab.cluster.delete_service(&Key::new("default", "web"));
    lab.commit();
    assert_eq!(lab.ask("web.default.svc."), Address(51));
    // A wildcard above the zone does not cover names in it.
    lab.statics(&[StaticEntry { name: Name::parse("local").unwrap(), ..entry("*.", 53) }], &[]);
    assert_eq!(lab.ask("foo."), Nxdomain);
    assert_eq!(ask(&lab.maps, &Name::parse("foo.local").unwrap()), Address(53));
}

#[test]
fn wildcards_above_the_zone_do_not_cover_names_below_pass_names_in_it() {
    let pass = ["nobody.default.svc", "web.default.svc"];
    let above = StaticEntry { name: Name::parse("local").unwrap(), ..entry("*.", 50) };
    let below = ["x.nobody.default.svc.", "x.y.nobody.default.svc.", "x.web.default.svc."];
    let mut lab = Lab::new(&pass);
    lab.statics(std::slice::from_ref(&above), &pass);
    for name in below {
        assert_ne!(lab.ask(name), Address(50), "{name}");
    }
    lab.statics(&[above.clone(), entry("*.default.svc.", 51)], &pass);
    assert_eq!(lab.ask("x.nobody.default.svc."), Address(51));
    let mut lab = Lab::empty(&pass);
    lab.statics(&[above], &pass);
    for name in below {
        assert_eq!(lab.ask(name), Address(50), "{name} without a cluster");
    }
}

#[test]
fn the_clusters_gates_apply_to_static_wildcards_and_not_to_static_names() {
    let pass = ["nobody.default.svc"];
    let wildcards = ["x.apps.", "y.x.apps.", "x.default.svc.", "x.nobody.default.svc."];
    let entries =
        [entry("*.apps.", 1), entry("*.default.svc.", 2), entry("web.default.svc.", 3), entry("*.a.example", 4)];
    for is_known in [false, true] {
        let mut lab = if is_known { Lab::new(&pass) } else { Lab::empty(&pass) };
        let announced = lab.layers.merge(lab.cluster.announce());
        lab.apply(announced);
        lab.statics(&entries, &pass);
        for wildcard in wildcards {
            for qtype in [A, AAAA] {
                assert_eq!(lab.zone(wildcard, qtype), Some(ZoneId::Cluster), "{wildcard} {qtype} {is_known}");
            }
        }
        for qtype in [A, AAAA] {
            assert_eq!(lab.zone("web.default.svc.", qtype), Some(ZoneId::Static));
            let outside = lab.maps.look_up(&Name::parse("x.a.example").unwrap(), qtype);
            assert_eq!(outside.map(|found| found.zone), Ok(ZoneId::Static));
        }
    }
    // Without a cluster its gates don't apply.
    let mut lab = Lab::empty(&pass);
    lab.statics(&entries, &pass);
    for wildcard in wildcards {
        assert_eq!(lab.zone(wildcard, A), Some(ZoneId::Static), "{wildcard}");
    }
}

/// Static wildcards don't cover names of the cluster that are withheld.
#[test]
fn static_wildcards_are_suspended_where_the_cluster_withholds_names() {
    let entries = [
        entry("*.", 50),
        entry("*.default.svc.", 51),
        entry("*.web.default.svc.", 52),
        entry("own.web.default.svc.", 53),
    ];
    let mut lab = Lab::new(&[]);
    lab.cluster.apply_namespace("other");
    lab.statics(&entries, &[]);
    lab.serve("db", 2);
    lab.commit();
    let room = |names| Size { names, ..Size::MAX };
    // The zone itself and the namespaces have nine names, each Service has three.
    for (names, passes) in [(15, vec![]), (11, vec!["_http._tcp.web", "_http._tcp.db"]), (10, vec!["db"]), (15, vec![])]
    {
        lab.cluster.set_capacity(room(names));
        for change in lab.layers.commit(&mut lab.cluster, Take::All) {
            lab.maps.apply(change);
            for name in ["web", "db", "_http._tcp.web", "_http._tcp.db"] {
                let got = lab.ask(&format!("{name}.default.svc."));
                assert!(matches!(got, Address(1 | 2) | Pass), "{name}, room for {names} names: {got:?}");
            }
        }
        for name in &passes {
            assert_eq!(lab.ask(&format!("{name}.default.svc.")), Pass, "room for {names} names");
        }
        assert_eq!(lab.ask("own.web.default.svc."), Address(53));
        assert_eq!(lab.ask("x."), Address(50), "other wildcards apply");
        let here = [("x.default.svc.", 51), ("x.web.default.svc.", 52), ("y.x.web.default.svc.", 52)];
        for (name, octet) in here {
            assert_eq!(
                lab.ask(name),
                if passes.is_empty() { Address(octet) } else { Pass },
                "{name}, room for {names} names"
            );
        }
        assert_eq!(lab.ask("x.other.svc."), Nxdomain);
    }
}

/// A wildcard above a withheld reverse name is suspended, and no other.
#[test]
fn static_wildcards_are_suspended_above_withheld_reverse_names_only() {
    let mut lab = Lab::new(&[]);
    let wildcards =
        ["*.10.in-addr.arpa", "*.96.10.in-addr.arpa", "*.97.10.in-addr.arpa", "*.11.in-addr.arpa", "*.ip6.arpa"];
    let entries: Vec<StaticEntry> = (51..).zip(wildcards).map(|(octet, name)| entry(name, octet)).collect();
    lab.statics(&entries, &[]);
    let names = [
        ("1.1.1.10.in-addr.arpa", 51, true),
        ("9.9.96.10.in-addr.arpa", 52, true),
        ("9.0.97.10.in-addr.arpa", 53, false),
        ("1.0.0.11.in-addr.arpa", 54, false),
        ("a.d.f.ip6.arpa", 55, false),
    ];
    // The zone itself and the namespace have seven names, the Service has three. Its reverse name is withheld first.
    for (room, yields) in [(10, false), (9, true), (10, false), (8, true), (0, true), (10, false)] {
        lab.cluster.set_capacity(Size { names: room, ..Size::MAX });
        lab.commit();
        assert_eq!(lab.cluster.withheld_names().0 > 0, yields, "room for {room} names");
        for (text, octet, may_pass) in names {
            let wanted = if yields && may_pass { Pass } else { Address(octet) };
            assert_eq!(lab.ask_name(&Name::parse(text).unwrap()), wanted, "{text}, room for {room} names");
        }
        let own = Name::parse("1.0.96.10.in-addr.arpa").unwrap();
        assert_eq!(lab.maps.all().contains_key(&own), !yields, "room for {room} names");
    }
    // They stay suspended when the configuration changes.
    lab.cluster.set_capacity(Size { names: 9, ..Size::MAX });
    lab.commit();
    let pass = pass_names(&["x"]);
    let settings = ClusterConfig { zone: name("cluster.local"), ttl: 60, negative_answers: true, serial: 1, pass };
    let changes = lab.layers.merge(lab.cluster.reconfigure(settings));
    lab.apply(changes);
    lab.commit();
    assert_eq!(lab.ask_name(&Name::parse("9.9.96.10.in-addr.arpa").unwrap()), Pass);
    assert_eq!(lab.ask_name(&Name::parse("9.0.97.10.in-addr.arpa").unwrap()), Address(53));
}

#[test]
fn pass_names_take_precedence_over_both_layers() {
    let pass = ["web.default.svc", "nobody", "*.default.pod", "*.corp"];
    let mut lab = Lab::new(&pass);
    lab.statics(&[entry("web.default.svc.", 77), entry("a.corp.", 78), entry("*.", 79)], &pass);
    for passes in ["web.default.svc.", "nobody.", "a.corp.", "b.a.corp."] {
        assert_eq!(lab.ask(passes), Pass, "{passes}");
    }
    assert_eq!(lab.ask("_http._tcp.web.default.svc."), Address(1));
    assert_eq!(lab.ask("some."), Address(79));
    assert_eq!(lab.ask("default.pod."), Nodata);
}
