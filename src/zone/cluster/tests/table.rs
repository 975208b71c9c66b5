//! Names of every kind with the replies that CoreDNS was seen to give, and the queries that pass.

use super::coredns::*;
use super::kernel::Maps;
use super::*;

/// A cluster with an object of every kind.
fn world() -> World {
    let mut world =
        World { namespaces: ["default", "kube-system", "empty"].map(String::from).into(), ..World::default() };
    for (ns, name, spec) in [
        ("default", "web", cluster_ip(&["10.96.0.10"], &["http/TCP/80", "https/TCP/443"])),
        ("default", "dual", cluster_ip(&["10.96.0.11", "fd00::b"], &["/UDP/53"])),
        ("default", "both", cluster_ip(&["10.96.0.12"], &["dns/UDP/53", "dns-tcp/TCP/53"])),
        ("default", "db", headless()),
        ("default", "portless", headless()),
        ("default", "unready", headless()),
        ("default", "fqdn", headless()),
        ("default", "out", external("www.example.com.")),
        ("default", "to-web", external("web.default.svc.cluster.local")),
        ("default", "to-to-web", external("to-web.default.svc.cluster.local")),
        ("default", "to-db-0", external("db-0.db.default.svc.cluster.local")),
        ("default", "to-port", external("http.tcp.web.default.svc.cluster.local")),
        ("default", "to-pod", external("10-1-2-3.default.pod.cluster.local")),
        ("default", "to-mapped-pod", external("0--ffff-a00-1.default.pod.cluster.local")),
        ("default", "to-no-port", external("_._.to-web.default.svc.cluster.local")),
        ("default", "to-db", external("db.default.svc.cluster.local")),
        ("default", "to-missing", external("missing.default.svc.cluster.local")),
        ("default", "to-out", external("out.default.svc.cluster.local")),
        ("default", "to-dns", external("ns.dns.cluster.local")),
        ("default", "itself", external("itself.default.svc.cluster.local")),
        ("default", "ping", external("pong.default.svc.cluster.local")),
        ("default", "pong", external("ping.default.svc.cluster.local")),
        ("default", "to-ip", external("192.0.2.1")),
        ("gone", "lost", cluster_ip(&["10.96.0.99"], &["http/TCP/80"])),
    ] {
        world.services.insert(Key::new(ns, name), spec);
    }
    for (ns, name, spec) in [
        ("default", "web-1", slice("web", &["http/TCP/8080"], &["10.1.0.1", "!10.1.0.2"])),
        ("default", "db-1", slice("db", &["sql/TCP/5432"], &["10.1.1.0=db-0", "10.1.1.1=db-1"])),
        ("default", "db-2", slice("db", &["sql/TCP/5432"], &["fd00:1::=db-0", "fd00:2::"])),
        ("default", "portless-1", slice("portless", &[], &["10.1.2.1"])),
        ("default", "unready-1", slice("unready", &["http/TCP/80"], &["!10.1.3.1"])),
        ("default", "fqdn-1", slice("fqdn", &["http/TCP/80"], &["www.example.com"])),
        ("default", "orphan-1", slice("orphan", &["http/TCP/80"], &["10.1.4.1", "10.1.0.1"])),
        ("default", "nobody-1", slice("", &["http/TCP/80"], &["10.1.5.1"])),
    ] {
        world.slices.insert(Key::new(ns, name), spec);
    }
    world
}

fn maps(world: &World) -> Maps {
    Maps::new(world.build(config()).1)
}

fn records(name: &str, lines: &[&str]) -> std::collections::BTreeSet<String> {
    let full = |l: &&str| l.replacen('@', &format!("{name}."), 1).replace('~', &format!(".default.svc.{ZONE}."));
    lines.iter().map(full).collect()
}

/// Expects these records. `@` is the question's name; `~` ends a name in the namespace `default`.
fn answers(maps: &Maps, name: &str, qtype: u16, answers: &[&str], additionals: &[&str]) {
    let name = &name.replace('~', &format!(".default.svc.{ZONE}"));
    let reply = Reply {
        rcode: 0,
        answers: records(name, answers),
        authorities: [].into(),
        additionals: records(name, additionals),
    };
    assert_eq!(maps.ask(name, qtype), Some(reply), "{name} {qtype}");
}

fn negative(maps: &Maps, rcode: u16, name: &str, qtypes: &[u16]) {
    let name = &name.replace('~', &format!(".default.svc.{ZONE}"));
    for qtype in qtypes {
        let reply = Reply { rcode, authorities: [soa()].into(), ..Reply::default() };
        assert_eq!(maps.ask(name, *qtype), Some(reply), "{name} {qtype}");
    }
}

fn nodata(maps: &Maps, name: &str, qtypes: &[u16]) {
    negative(maps, 0, name, qtypes);
}

fn nxdomain(maps: &Maps, name: &str, qtypes: &[u16]) {
    negative(maps, 3, name, qtypes);
}

fn passes(maps: &Maps, name: &str, qtypes: &[u16]) {
    let name = &name.replace('~', &format!(".default.svc.{ZONE}"));
    for qtype in qtypes {
        assert_eq!(maps.ask(name, *qtype), None, "{name} {qtype}");
    }
}

/// Clients that take the first address are spread over all, whether they ask for the Service or for an alias.
#[test]
fn addresses_rotate_in_every_section() {
    let maps = maps(&world());
    let rotation = |name: &str, qtype| {
        let name = Name::parse(&format!("{name}.default.svc.{ZONE}")).unwrap();
        maps.answer(&name, qtype).unwrap().rotation.map(|r| (r.stride, r.count))
    };
    assert_eq!((rotation("db", A), rotation("to-db", A)), (Some((16, 2)), Some((16, 2))));
    assert_eq!((rotation("db", AAAA), rotation("to-db", AAAA)), (Some((28, 2)), Some((28, 2))));
    // Of additional addresses only one family rotates: A, if both have as many.
    assert_eq!((rotation("db", SRV), rotation("_sql._tcp.db", SRV)), (Some((16, 2)), Some((16, 2))));
    assert_eq!((rotation("web", A), rotation("to-web", A), rotation("dual", SRV)), (None, None, None));
}

const MOST: [u16; 5] = [A, AAAA, SRV, MX, HTTPS];

#[test]
fn services_with_addresses() {
    let maps = &maps(&world());
    answers(maps, "web~", A, &["@ 30 A 10.96.0.10"], &[]);
    nodata(maps, "web~", &[AAAA, CNAME, TXT, MX, PTR, HTTPS]);
    passes(maps, "web~", &[SOA, NS]);
    answers(maps, "web~", SRV, &["@ 30 SRV 0 50 80 web~", "@ 30 SRV 0 50 443 web~"], &["@ 30 A 10.96.0.10"]);
    answers(maps, "dual~", AAAA, &["@ 30 AAAA fd00::b"], &[]);
    // A port of a Service with two addresses counts twice for the weight, but is one record.
    let both = ["@ 30 A 10.96.0.11", "@ 30 AAAA fd00::b"];
    answers(maps, "dual~", SRV, &["@ 30 SRV 0 50 53 dual~"], &both);
    // So does a port over two protocols.
    answers(maps, "both~", SRV, &["@ 30 SRV 0 50 53 both~"], &["@ 30 A 10.96.0.12"]);
}

#[test]
fn ports() {
    let maps = &maps(&world());
    let name = "_http._tcp.web~";
    answers(maps, name, SRV, &["@ 30 SRV 0 100 80 web~"], &["web~ 30 A 10.96.0.10"]);
    answers(maps, name, A, &["@ 30 A 10.96.0.10"], &[]);
    nodata(maps, name, &[AAAA, TXT, CNAME, HTTPS]);
    let both = ["dual~ 30 A 10.96.0.11", "dual~ 30 AAAA fd00::b"];
    answers(maps, "_._udp.dual~", SRV, &["@ 30 SRV 0 50 53 dual~"], &both);
    nxdomain(maps, "_tcp.web~", &MOST);
    // Other spellings of ports pass, whether or not CoreDNS accepts them.
    for name in ["http.tcp.web~", "_https._udp.web~", "_no._tcp.web~", "_._tcp.web~", "x._http._tcp.web~", "a.b.c.web~"]
    {
        passes(maps, name, &TYPES);
    }
    let sql = ["@ 30 SRV 0 25 5432 db-0.db~", "@ 30 SRV 0 25 5432 db-1.db~", "@ 30 SRV 0 25 5432 fd00-2--0.db~"];
    let hosts = [
        "db-0.db~ 30 A 10.1.1.0",
        "db-1.db~ 30 A 10.1.1.1",
        "db-0.db~ 30 AAAA fd00:1::",
        "fd00-2--0.db~ 30 AAAA fd00:2::",
    ];
    answers(maps, "_sql._tcp.db~", SRV, &sql, &hosts);
    answers(maps, "db~", SRV, &sql, &hosts);
}

#[test]
fn endpoints() {
    let maps = &maps(&world());
    answers(maps, "10-1-0-1.web~", A, &["@ 30 A 10.1.0.1"], &[]);
    answers(maps, "10-1-0-1.web~", SRV, &["@ 30 SRV 0 100 8080 10-1-0-1.web~"], &["@ 30 A 10.1.0.1"]);
    nodata(maps, "10-1-0-1.web~", &[AAAA, TXT]);
    nxdomain(maps, "10-1-0-2.web~", &MOST);
    nxdomain(maps, "10-1-1-0.db~", &MOST);
    answers(maps, "db-0.db~", A, &["@ 30 A 10.1.1.0"], &[]);
    answers(maps, "db-0.db~", AAAA, &["@ 30 AAAA fd00:1::"], &[]);
    answers(maps, "fd00-2--0.db~", AAAA, &["@ 30 AAAA fd00:2::"], &[]);
    nodata(maps, "fd00-2--0.db~", &[A]);
}

#[test]
fn headless_services() {
    let maps = &maps(&world());
    answers(maps, "db~", A, &["@ 30 A 10.1.1.0", "@ 30 A 10.1.1.1"], &[]);
    answers(maps, "db~", AAAA, &["@ 30 AAAA fd00:1::", "@ 30 AAAA fd00:2::"], &[]);
    answers(maps, "portless~", A, &["@ 30 A 10.1.2.1"], &[]);
    nodata(maps, "portless~", &[AAAA, SRV, TXT]);
    for name in ["unready~", "_http._tcp.unready~", "10-1-3-1.unready~"] {
        nxdomain(maps, name, &MOST);
    }
    for name in ["fqdn~", "www-example-com.fqdn~", "_http._tcp.fqdn~"] {
        passes(maps, name, &[A, AAAA, CNAME]);
        nodata(maps, name, &[SRV, TXT, MX, PTR, HTTPS]);
    }
    nxdomain(maps, "x.fqdn~", &MOST);
}

#[test]
fn external_names() {
    let maps = &maps(&world());
    answers(maps, "out~", CNAME, &["@ 30 CNAME www.example.com."], &[]);
    for name in ["out~", "to-out~", "to-dns~"] {
        passes(maps, name, &[A, AAAA]);
        nodata(maps, name, &[SRV, TXT, HTTPS]);
    }
    answers(maps, "to-web~", A, &["@ 30 CNAME web~", "web~ 30 A 10.96.0.10"], &[]);
    answers(maps, "to-web~", CNAME, &["@ 30 CNAME web~"], &[]);
    nodata(maps, "to-web~", &[AAAA, SRV, MX, TXT]);
    answers(maps, "to-to-web~", A, &["@ 30 CNAME to-web~", "to-web~ 30 CNAME web~", "web~ 30 A 10.96.0.10"], &[]);
    answers(maps, "to-to-web~", CNAME, &["@ 30 CNAME to-web~"], &[]);
    answers(maps, "to-db-0~", A, &["@ 30 CNAME db-0.db~", "db-0.db~ 30 A 10.1.1.0"], &[]);
    answers(maps, "to-db-0~", AAAA, &["@ 30 CNAME db-0.db~", "db-0.db~ 30 AAAA fd00:1::"], &[]);
    answers(maps, "to-port~", A, &["@ 30 CNAME http.tcp.web~", "http.tcp.web~ 30 A 10.96.0.10"], &[]);
    let pod = "10-1-2-3.default.pod.cluster.local.";
    let (alias, address) = (format!("@ 30 CNAME {pod}"), format!("{pod} 30 A 10.1.2.3"));
    answers(maps, "to-pod~", A, &[&alias, &address], &[]);
    let pod = "0--ffff-a00-1.default.pod.cluster.local.";
    let (alias, address) = (format!("@ 30 CNAME {pod}"), format!("{pod} 30 A 10.0.0.1"));
    answers(maps, "to-mapped-pod~", A, &[&alias, &address], &[]);
    nodata(maps, "to-mapped-pod~", &[AAAA]);
    let aliases = ["@ 30 CNAME _._.to-web~", "_._.to-web~ 30 CNAME web~", "web~ 30 A 10.96.0.10"];
    answers(maps, "to-no-port~", A, &aliases, &[]);
    // CoreDNS strips the underscores and sees neither port nor protocol: it answers with the alias. These pass.
    for name in ["_._.to-web~", "_._.out~", "_._.to-missing~"] {
        passes(maps, name, &TYPES);
    }
    for name in ["to-missing~", "itself~", "ping~", "pong~"] {
        nodata(maps, name, &[A, AAAA, SRV, TXT]);
    }
    answers(maps, "ping~", CNAME, &["@ 30 CNAME pong~"], &[]);
    for name in ["to-ip~", "_http._tcp.to-web~", "x.to-web~", "_.to-web~", "x._.to-web~", "_._.to-ip~", "a.b.c.out~"] {
        nxdomain(maps, name, &MOST);
    }
}

#[test]
fn chains_end_after_eleven_aliases() {
    let mut world = world();
    for i in 1..=12 {
        let target = if i == 1 { "web".into() } else { format!("n{}", i - 1) };
        world.services.insert(Key::new("default", &format!("n{i}")), external(&format!("{target}.default.svc.{ZONE}")));
    }
    let maps = &maps(&world);
    assert_eq!(maps.ask(&format!("n11.default.svc.{ZONE}"), A).unwrap().answers.len(), 12);
    nodata(maps, "n12~", &[A]);
    assert_eq!(world.expected(&format!("n11.default.svc.{ZONE}"), A), maps.ask(&format!("n11.default.svc.{ZONE}"), A));
}

#[test]
fn pointers() {
    let maps = &maps(&world());
    let ptr = |name: &str, targets: &[&str]| {
        let lines: Vec<String> = targets.iter().map(|t| format!("@ 30 PTR {t}")).collect();
        answers(maps, name, PTR, &lines.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        passes(maps, name, &[A, TXT, SRV, SOA]);
    };
    ptr("10.0.96.10.in-addr.arpa", &["web~"]);
    ptr("b.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", &["dual~"]);
    // CoreDNS answers even if the Service's namespace does not exist.
    ptr("99.0.96.10.in-addr.arpa", &["lost.gone.svc.cluster.local."]);
    ptr("1.0.1.10.in-addr.arpa", &["10-1-0-1.web~", "10-1-0-1.orphan~"]);
    ptr("0.1.1.10.in-addr.arpa", &["db-0.db~"]);
    ptr("1.4.1.10.in-addr.arpa", &["10-1-4-1.orphan~"]);
    for name in ["2.0.1.10.in-addr.arpa", "1.5.1.10.in-addr.arpa", "in-addr.arpa", "1.1.1.1.in-addr.arpa"] {
        passes(maps, name, &TYPES);
    }
}

#[test]
fn a_cluster_ip_outranks_endpoints() {
    let mut world = world();
    world.slices.insert(Key::new("default", "x"), slice("db", &[], &["10.96.0.10"]));
    answers(&maps(&world), "10.0.96.10.in-addr.arpa", PTR, &["@ 30 PTR web~"], &[]);
}

#[test]
fn fixed_names() {
    let maps = &maps(&world());
    for name in ["", "svc.", "pod.", "empty.svc.", "default.pod."].map(|n| format!("{n}{ZONE}")) {
        nodata(maps, &name, &[A, AAAA, SRV, MX, CNAME, PTR, HTTPS]);
        passes(maps, &name, &[TXT, NS]);
    }
    answers(maps, ZONE, SOA, &[&soa()], &[]);
    passes(maps, "svc.cluster.local", &[SOA]);
    answers(maps, "dns-version.cluster.local", TXT, &["@ 28800 TXT 1.1.0"], &[]);
    for name in
        ["dns-version", "x.dns-version", "gone.svc", "lost.gone.svc", "gone.pod", "x", "y.x", "missing.default.svc"]
    {
        let qtypes = [A, AAAA, SRV, CNAME, MX, PTR, HTTPS];
        nxdomain(maps, &format!("{name}.{ZONE}"), &qtypes);
        passes(maps, &format!("{name}.{ZONE}"), &[SOA, NS]);
    }
    nxdomain(maps, "www.example.com.default.svc.cluster.local", &MOST);
    for name in
        ["dns", "ns.dns", "x.y.dns", "10-1-2-3.default.pod", "x.default.pod", "10-1-2-3.gone.pod", "a.b.default.pod"]
    {
        passes(maps, &format!("{name}.{ZONE}"), &TYPES);
    }
    for name in ["local", "example.com", "acluster.local"] {
        passes(maps, name, &TYPES);
    }
}

#[test]
fn the_model_of_coredns_agrees() {
    let world = world();
    let maps = maps(&world);
    let mut names = vec![ZONE.to_owned()];
    for key in world.services.keys() {
        for relative in ["", "_http._tcp.", "_tcp.", "db-0.", "10-1-0-1.", "x.y.", "_.", "_._.", "x._._."] {
            names.push(format!("{relative}{}.{}.svc.{ZONE}", key.name, key.namespace));
        }
    }
    for name in names {
        for qtype in TYPES {
            assert_eq!(maps.ask(&name, qtype), world.expected(&name, qtype), "{name} {qtype}");
        }
    }
}

/// The label that names a slice's Service may have dots. In names they separate labels, as CoreDNS has it. If the label of one
/// slice makes no valid name, CoreDNS sends no PTR record of the address at all, and queries pass.
#[test]
fn an_address_of_a_service_with_dots() {
    let mut cluster = Cluster::new(config());
    ["default", "tenant"].iter().for_each(|namespace| cluster.apply_namespace(namespace));
    cluster.apply_slice(Key::new("default", "web-1"), &slice("web", &[], &["10.0.0.1"]));
    let mut maps = Maps::new(cluster.commit());
    let ask =
        |maps: &Maps| maps.ask("1.0.0.10.in-addr.arpa", 12).map(|reply| reply.answers.into_iter().collect::<Vec<_>>());
    let record = |below: &str| format!("1.0.0.10.in-addr.arpa. 30 PTR 10-0-0-1.{below}.svc.{ZONE}.");
    for (label, others) in [("a.b", Some("a.b.tenant")), ("a.b.c", Some("a.b.c.tenant")), ("a..b", None)] {
        cluster.apply_slice(Key::new("tenant", "s"), &slice(label, &[], &["10.0.0.1"]));
        cluster.commit().into_iter().for_each(|change| maps.apply(change));
        assert_eq!(ask(&maps), others.map(|others| vec![record(others), record("web.default")]), "{label}");
        // There is no such Service, whatever slices say.
        assert_eq!(maps.ask(&format!("{label}.tenant.svc.{ZONE}").replace("..", ".x."), 1).map(|r| r.rcode), Some(3));
    }
}
