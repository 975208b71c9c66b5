//! Random events. After each commit every query gets CoreDNS' reply, and the index equals a new one. After each change of a
//! commit every query gets its old or its new answer.

use super::coredns::{TYPES, World};
use super::kernel::Maps;
use super::*;

const NAMESPACES: [&str; 2] = ["default", "prod"];
const SERVICES: [&str; 4] = ["web", "db", "ext", "tcp"];
const SLICES: [&str; 3] = ["s1", "s2", "s3"];
const ADDRESSES: [&str; 6] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00:1::", "10.0.0.4"];
const TARGETS: [&str; 11] = [
    "www.example.com",
    "web.default.svc.cluster.local",
    "ext.default.svc.cluster.local",
    "ext.prod.svc.cluster.local",
    "db.prod.svc.cluster.local",
    "h1.db.default.svc.cluster.local",
    "http.tcp.web.prod.svc.cluster.local",
    "10-0-0-9.prod.pod.cluster.local",
    "0--ffff-a00-9.prod.pod.cluster.local",
    "_._.ext.default.svc.cluster.local",
    "192.0.2.7",
];
const PORTS: [&str; 5] = ["http/TCP/80", "dns/UDP/53", "dns-tcp/TCP/53", "/TCP/9", "any/SCTP/-"];

/// xorshift64*: a failure can be repeated with its seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn some<'a>(&mut self, of: &[&'a str], most: usize) -> Vec<&'a str> {
        let wanted = self.below(most + 1);
        let mut some: Vec<&str> = (0..wanted).map(|_| self.one(of)).collect();
        some.sort_unstable();
        some.dedup();
        some
    }

    fn service(&mut self) -> ServiceSpec {
        let ports = self.some(&PORTS, 3);
        match self.below(5) {
            0 | 1 => cluster_ip(&["10.0.0.4", "fd00::1"][..1 + self.below(2)], &ports),
            2 | 3 => headless(),
            _ => external(self.one(&TARGETS)),
        }
    }

    fn slice(&mut self) -> SliceSpec {
        let mut endpoints: Vec<String> = Vec::new();
        for address in self.some(&ADDRESSES, 4) {
            endpoints.push(match self.below(6) {
                0 => format!("!{address}"),
                1 => format!("{address}=h1"),
                2 => format!("{address}=tcp"),
                _ => address.to_owned(),
            });
        }
        if self.below(8) == 0 {
            endpoints.push(self.one(&["www.example.com", "www.example.com=h1", "!www.example.com"]).into());
        }
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let service = match self.below(20) {
            0 | 1 => "",
            2 => "a.b",
            _ => self.one(&SERVICES),
        };
        slice(service, &self.some(&PORTS, 2), &endpoints)
    }

    /// Makes a random event, in the objects and in the index.
    pub fn event(&mut self, world: &mut World, cluster: &mut Cluster) {
        let ns = self.one(&NAMESPACES);
        match self.below(14) {
            0 => {
                world.namespaces.remove(ns);
                cluster.delete_namespace(ns);
            }
            1 | 2 => {
                world.namespaces.insert(ns.into());
                cluster.apply_namespace(ns);
            }
            3 => {
                let key = Key::new(ns, self.one(&SERVICES));
                world.services.remove(&key);
                cluster.delete_service(&key);
            }
            4..=7 => {
                let (key, spec) = (Key::new(ns, self.one(&SERVICES)), self.service());
                cluster.apply_service(key.clone(), &spec);
                world.services.insert(key, spec);
            }
            8 => {
                let key = Key::new(ns, self.one(&SLICES));
                world.slices.remove(&key);
                cluster.delete_slice(&key);
            }
            9..=12 => {
                let (key, spec) = (Key::new(ns, self.one(&SLICES)), self.slice());
                cluster.apply_slice(key.clone(), &spec);
                world.slices.insert(key, spec);
            }
            _ => {
                // A relist: some objects no longer exist, others are new.
                world.namespaces = self.some(&NAMESPACES, 4).into_iter().map(String::from).collect();
                cluster.replace_namespaces(&world.namespaces);
                let (key, spec) = (Key::new(ns, self.one(&SERVICES)), self.service());
                world.services.retain(|_, _| self.below(3) > 0);
                world.services.insert(key, spec);
                cluster.replace_services(world.services.clone());
                let (key, spec) = (Key::new(ns, self.one(&SLICES)), self.slice());
                world.slices.retain(|_, _| self.below(3) > 0);
                world.slices.insert(key, spec);
                cluster.replace_slices(world.slices.clone());
            }
        }
    }
}

/// The names that random events may change, with their parents, siblings and children.
pub fn probes() -> Vec<String> {
    let mut probes: Vec<String> =
        ["", "svc.", "pod.", "x.", "y.x.", "dns.", "ns.dns.", "dns-version."].map(String::from).into();
    for ns in NAMESPACES.iter().chain(&["gone"]) {
        probes.extend([format!("{ns}.svc."), format!("{ns}.pod."), format!("10-0-0-1.{ns}.pod.")]);
        for service in SERVICES.iter().chain(&["none"]) {
            let relatives = [
                "",
                "10-0-0-1.",
                "10-0-0-4.",
                "fd00--1.",
                "fd00-1--0.",
                "h1.",
                "tcp.",
                "x.",
                "_tcp.",
                "_http._tcp.",
                "_dns._udp.",
                "_._tcp.",
                "_.",
                "_._.",
                "x._._.",
                "_any._sctp.",
                "http.tcp.",
                "_x._tcp.",
                "x.h1.",
                "a.b.c.",
                "www-example-com.",
            ];
            probes.extend(relatives.map(|relative| format!("{relative}{service}.{ns}.svc.")));
        }
    }
    probes.iter_mut().for_each(|p| p.push_str(ZONE));
    for address in ADDRESSES {
        let name = reverse::name_of(address.parse().unwrap()).unwrap().to_string();
        probes.push(name.trim_end_matches('.').to_owned());
    }
    probes.push("www.example.com".into());
    probes
}

/// The node that answers for a name, and its fallback: they decide the answers of all types.
pub fn answers_of(maps: &Maps, name: &Name) -> Option<(Node, Option<Arc<Node>>)> {
    let node = maps.find(name)?;
    let own = Node { child: None, deep: None, fallback: None, ..node.clone() };
    Some((own, node.fallback.clone()))
}

/// Applies changes one by one. After each of them every probe must get its old or its new answers; with `may_pass` it may pass
/// instead. Returns the highest number of names in the maps.
pub fn apply_in_steps(
    maps: &mut Maps,
    changes: Vec<Change>,
    probes: &[(String, Name)],
    may_pass: bool,
    circumstances: impl Fn() -> String,
) -> usize {
    let before: Vec<_> = probes.iter().map(|(_, name)| answers_of(maps, name)).collect();
    let mut end = maps.clone();
    changes.iter().for_each(|c| end.apply(c.clone()));
    let after: Vec<_> = probes.iter().map(|(_, name)| answers_of(&end, name)).collect();
    let mut most = maps.all().len();
    for change in changes {
        let about = change.name().clone();
        maps.apply(change);
        most = most.max(maps.all().len());
        for (i, (text, name)) in probes.iter().enumerate() {
            let now = answers_of(maps, name);
            let passes = now.as_ref().is_none_or(|now| *now == (Node::pass(ZoneId::Cluster), None));
            assert!(
                now == before[i] || now == after[i] || may_pass && passes,
                "{text} after {about}: {now:?} is neither {:?} nor {:?}\n{}",
                before[i],
                after[i],
                circumstances()
            );
        }
    }
    most
}

fn run(seed: u64, config: &ClusterConfig, commits: usize) {
    let probes: Vec<(String, Name)> = probes().into_iter().map(|p| (p.clone(), Name::parse(&p).unwrap())).collect();
    let (mut random, mut world, mut cluster) = (Random(seed), World::default(), Cluster::new(config.clone()));
    let mut maps = Maps::default();
    for commit in 0..commits {
        for _ in 0..=random.below(5) {
            random.event(&mut world, &mut cluster);
        }
        let changes = cluster.commit();
        let names: HashSet<&Name> = changes.iter().map(Change::name).collect();
        assert_eq!(names.len(), changes.len(), "a name is changed twice");
        apply_in_steps(&mut maps, changes, &probes, false, || {
            format!("seed {seed}, commit {commit}\n{}", world.describe())
        });
        for (text, _) in &probes {
            for qtype in TYPES {
                let expected = world.expected(text, qtype);
                let expected = expected.filter(|r| config.negative_answers || !r.answers.is_empty());
                assert_eq!(
                    maps.ask(text, qtype),
                    expected,
                    "seed {seed}, commit {commit}: {text} {qtype}\n{}",
                    world.describe()
                );
            }
        }
        let (rebuilt, changes) = world.build(config.clone());
        let fresh = Maps::new(changes);
        let fresh = fresh.all();
        assert!(maps.all() == fresh, "seed {seed}, commit {commit}: {:?}", differences(maps.all(), fresh));
        assert!(rebuilt.nodes() == *fresh && cluster.nodes() == *fresh, "seed {seed}, commit {commit}");
        for (_, name) in &probes {
            assert_eq!(cluster.node(name).as_ref(), fresh.get(name), "seed {seed}, commit {commit}: {name}");
        }
    }
}

fn differences<'a>(one: &'a HashMap<Name, Node>, other: &'a HashMap<Name, Node>) -> Vec<&'a Name> {
    one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).collect()
}

#[test]
fn after_each_change_every_query_gets_its_old_or_new_answer() {
    for seed in 1..=6 {
        run(seed, &config(), 20);
    }
}

#[test]
fn without_negative_answers_queries_without_records_pass() {
    run(99, &ClusterConfig { negative_answers: false, ..config() }, 15);
}

#[test]
fn a_relist_of_the_same_objects_changes_nothing() {
    let mut random = Random(5);
    let (mut world, mut cluster) = (World::default(), Cluster::new(config()));
    (0..40).for_each(|_| random.event(&mut world, &mut cluster));
    cluster.commit();
    cluster.replace_namespaces(&world.namespaces);
    cluster.replace_services(world.services.clone());
    cluster.replace_slices(world.slices.clone());
    assert_eq!(cluster.commit(), []);
}

#[test]
fn an_object_deleted_and_created_between_commits_is_never_missing() {
    let mut cluster = Cluster::new(config());
    let key = Key::new("default", "web");
    cluster.apply_namespace("default");
    cluster.apply_service(key.clone(), &cluster_ip(&["10.0.0.1"], &["http/TCP/80"]));
    let web = Name::parse("web.default.svc.cluster.local").unwrap();
    assert!(cluster.commit().iter().any(|c| *c.name() == web));
    cluster.delete_service(&key);
    cluster.delete_namespace("default");
    cluster.apply_namespace("default");
    cluster.apply_service(key, &cluster_ip(&["10.0.0.2"], &["http/TCP/80"]));
    let changes = cluster.commit();
    assert_eq!(changes.iter().filter(|c| *c.name() == web).count(), 1);
    let removed = changes.iter().filter(|c| matches!(c, Change::Remove(_))).map(|c| c.name().to_string());
    assert_eq!(removed.collect::<Vec<_>>(), ["1.0.0.10.in-addr.arpa."]);
}
