//! Renders the nodes of the cluster's names, with the negative answers for types and names that don't exist.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::ClusterConfig;
use super::alias::Chain;
use super::gate;
use super::model::Endpoint;
use super::plan::{Host, Relative, SrvRecords};
use super::reverse::{self, Pointer};
use super::spec::Key;
use crate::zone::change::Change;
use crate::zone::name::Name;
use crate::zone::node::{ANY_TYPE, AnswerKind, Node, Verdict, ZoneId};
use crate::zone::render::{self, Data, RRS_MAX, Soa};

/// Types (RFC 1035 §3.2.2, RFC 3596 §2.1, RFC 2782).
const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_PTR: u16 = 12;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;

/// The version of the Kubernetes DNS specification that names follow, and the TTL of its TXT record in seconds (CoreDNS' value).
const DNS_VERSION: (&str, u32) = ("1.1.0", 28800);

/// Renders nodes of one zone.
pub(super) struct Renderer {
    pub config: ClusterConfig,
    /// `PassNames` within the zone that get a node even if the name has no records.
    pass_names: HashSet<Name>,
    /// Shared negative answers, by gate.
    negatives: Vec<OnceCell<Negatives>>,
}

/// The negative answers that names with the same gate share. None: negative answers are off and these queries pass.
#[derive(Clone)]
struct Negatives {
    /// NODATA for types that a name lacks.
    nodata: Option<Arc<Node>>,
    /// NODATA for empty non-terminals: the apex, `svc`, `pod` and the names of namespaces.
    empty_nodata: Option<Arc<Node>>,
    /// NXDOMAIN for names that don't exist.
    missing: Option<Arc<Node>>,
}

impl Negatives {
    /// Copies of these nodes with another gate.
    fn with_gate(&self, gate: u8) -> Self {
        let with_gate = |node: &Option<Arc<Node>>| node.as_deref().map(|node| Arc::new(Node { gate, ..node.clone() }));
        Self {
            nodata: with_gate(&self.nodata),
            empty_nodata: with_gate(&self.empty_nodata),
            missing: with_gate(&self.missing),
        }
    }
}

fn node(types: Vec<(u16, Verdict)>) -> Node {
    Node { types, ..Node::pass(ZoneId::Cluster) }
}

impl Renderer {
    pub(super) fn new(config: ClusterConfig) -> Self {
        let soa = Soa { zone: &config.zone, serial: config.serial, ttl: config.ttl };
        let negative = |kind, passing: &[u16]| {
            let passing = passing.iter().map(|qtype| (*qtype, Verdict::Pass));
            let node = node(passing.chain([(ANY_TYPE, render::negative(kind, &soa))]).collect());
            config.negative_answers.then(|| Arc::new(node))
        };
        // These pass: CoreDNS answers SOA queries for missing names with NODATA and TXT queries for empty non-terminals with
        // NXDOMAIN, and its NS records depend on where it runs.
        let missing = negative(AnswerKind::Nxdomain, &[TYPE_SOA, TYPE_NS]);
        let nodata = negative(AnswerKind::Nodata, &[TYPE_SOA, TYPE_NS]);
        let empty_nodata = negative(AnswerKind::Nodata, &[TYPE_SOA, TYPE_NS, TYPE_TXT]);
        let pass = &config.pass;
        let pass_names = pass.names().chain(pass.suffixes()).filter(|n| n.is_within(&config.zone));
        let pass_names = pass_names.filter(|n| !n.parent().is_some_and(|p| pass.covers_below(&p))).cloned().collect();
        let negatives = vec![OnceCell::new(); usize::from(u8::MAX) + 1];
        let _ = negatives[0].set(Negatives { nodata, empty_nodata, missing });
        Self { pass_names, negatives, config }
    }

    fn negatives(&self, gate: u8) -> &Negatives {
        let plain = &self.negatives[0];
        self.negatives[usize::from(gate)].get_or_init(|| match plain.get() {
            Some(plain) => plain.with_gate(gate),
            None => unreachable!("it is set at first"),
        })
    }

    /// `PassNames` within the zone that get a node even if the name has no records.
    pub(super) fn pass_names(&self) -> impl Iterator<Item = &Name> {
        self.pass_names.iter()
    }

    /// The change that gives a name this node, or none; applies `PassNames`. None if the name is below one of their suffixes
    /// and so never has a node.
    pub(super) fn change(&self, name: Name, node: Option<Node>) -> Option<Change> {
        let pass = &self.config.pass;
        if pass.is_empty() {
            return Some(match node {
                Some(node) => Change::Put(name, node),
                None => Change::Remove(name),
            });
        }
        if name.parent().is_some_and(|p| pass.covers_below(&p)) {
            return None;
        }
        let Some(mut node) = node else {
            let extra = self.pass_names.contains(&name);
            return Some(if extra { Change::Put(name, Node::pass(ZoneId::Cluster)) } else { Change::Remove(name) });
        };
        if pass.covers(&name) {
            node.types.clear();
            node.fallback = None;
        }
        if pass.covers_below(&name) {
            node.child = None;
            node.deep = None;
        }
        Some(Change::Put(name, node))
    }

    /// The placeholder: the node for the apex that answers every name in the zone before the first commit.
    pub(super) fn placeholder(&self) -> Node {
        let ClusterConfig { zone, serial, ttl, .. } = &self.config;
        let answer = render::negative(AnswerKind::Nxdomain, &Soa { zone, serial: *serial, ttl: *ttl });
        let any = Some(Arc::new(node(vec![(ANY_TYPE, answer)])));
        Node { fallback: any.clone(), child: any.clone(), deep: any, ..node(Vec::new()) }
    }

    /// The names that every zone has, without any object.
    pub(super) fn fixed_names(&self) -> Vec<(Name, Node)> {
        let zone = &self.config.zone;
        let soa = Soa { zone, serial: self.config.serial, ttl: self.config.ttl };
        let (version, ttl) = DNS_VERSION;
        let missing = &self.negatives(0).missing;
        let below = |label: &str, node: Node| Some((zone.child(label).ok()?, node));
        let version_node = |owner: &Name| Node {
            types: vec![(TYPE_TXT, render::exact(owner, &[(owner, Data::Text(version), ttl)], &[]))],
            fallback: missing.clone(),
            child: missing.clone(),
            deep: missing.clone(),
            ..node(Vec::new())
        };
        let apex = Node { types: vec![(TYPE_SOA, render::apex_soa(&soa))], ..self.empty(true, 0) };
        [
            Some((zone.clone(), apex)),
            below("svc", self.empty(true, 0)),
            // The names of pods pass: CoreDNS computes the address from the name, which the program can't.
            below("pod", self.empty(false, 0)),
            // Names below `dns` pass: they are those of CoreDNS itself.
            below("dns", Node::pass(ZoneId::Cluster)),
            zone.child("dns-version").ok().map(|name| (name.clone(), version_node(&name))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// An empty non-terminal. Absent children get NXDOMAIN; with `deep`, all absent descendants do.
    fn empty(&self, deep: bool, gate: u8) -> Node {
        let Negatives { empty_nodata, missing, .. } = self.negatives(gate);
        Node {
            fallback: empty_nodata.clone(),
            child: missing.clone(),
            deep: missing.clone().filter(|_| deep),
            ..node(Vec::new())
        }
    }

    /// The names of a namespace. If `passes_absent_names`, names below that have no node pass, since some of them are withheld.
    pub(super) fn namespace(&self, namespace: &str, passes_absent_names: bool) -> Vec<(Name, Node)> {
        let name = |branch: &str| self.config.zone.child(branch).ok()?.child(namespace).ok();
        let (pods, services) = (self.empty(false, 0), self.empty(true, gate::of(namespace)));
        let without_negatives = |node: Node| Node { child: None, deep: None, ..node };
        let (pods, services) =
            (without_negatives(pods), if passes_absent_names { without_negatives(services) } else { services });
        name("svc").map(|n| (n, services)).into_iter().chain(name("pod").map(|n| (n, pods))).collect()
    }

    /// The name of a Service, or of the Service that a slice's label names. Dots in that label separate labels, as CoreDNS has
    /// it. None if the name is too long or has an empty label.
    pub(super) fn service_name(&self, key: &Key) -> Option<Name> {
        self.config.zone.below(key.name.split('.').chain([&*key.namespace, "svc"])).ok()
    }

    /// A node of the Service whose name is `base`. If `has_nxdomain`, names one label below it that have no node don't exist;
    /// otherwise they pass. Its negative answers have this gate.
    pub(super) fn host(&self, gate: u8, (owner, base): (&Name, &Name), host: &Host, has_nxdomain: bool) -> Node {
        let ttl = self.config.ttl;
        let mut types = Vec::with_capacity(3);
        if host.aliased {
            types.extend([TYPE_A, TYPE_AAAA, TYPE_CNAME].map(|qtype| (qtype, Verdict::Pass)));
        } else {
            let families = by_family(&host.addresses).into_iter().filter(|(_, addresses)| !addresses.is_empty());
            types.extend(families.map(|(qtype, addresses)| (qtype, render::addresses(&addresses, ttl))));
        }
        match &host.srv {
            None => types.push((TYPE_SRV, Verdict::Pass)),
            Some(srv) if srv.records.is_empty() => {}
            Some(srv) => types.push((TYPE_SRV, self.srv(owner, base, srv))),
        }
        Node {
            types,
            fallback: self.negatives(gate).nodata.clone(),
            child: self.negatives(gate).missing.clone().filter(|_| has_nxdomain),
            ..node(Vec::new())
        }
    }

    /// The SRV records at `owner`, with the addresses of their targets.
    fn srv(&self, owner: &Name, base: &Name, srv: &SrvRecords) -> Verdict {
        let ttl = self.config.ttl;
        let names =
            |targets: Vec<&Relative>| targets.into_iter().map(|t| below(base, t)).collect::<Option<Vec<Name>>>();
        let targets = names(srv.records.iter().map(|(t, _)| t).collect());
        let owners = names(srv.addresses.iter().map(|(t, _)| t).collect());
        // A target that is too long for a name: the query passes.
        let (Some(targets), Some(owners)) = (targets, owners) else { return Verdict::Pass };
        let answers: Vec<_> = (targets.iter().zip(&srv.records))
            .map(|(target, (_, port))| (owner, Data::Srv { target, port: *port, weight: srv.weight }, ttl))
            .collect();
        let additionals = owners.iter().zip(&srv.addresses).map(|(name, (_, a))| (name, Data::Address(*a), ttl));
        // Only the last records of equal size rotate, so the family with more addresses comes last.
        let (v4, v6): (Vec<_>, Vec<_>) =
            additionals.partition(|(_, data, _)| matches!(data, Data::Address(IpAddr::V4(_))));
        let additionals = if v4.len() < v6.len() { [v4, v6] } else { [v6, v4] }.concat();
        render::exact(owner, &answers, &additionals)
    }

    /// The node of an ExternalName Service with this target, which resolves to `chain`. Its negative answers have this gate.
    pub(super) fn alias(&self, gate: u8, owner: &Name, target: &Name, chain: &Chain) -> Node {
        let ttl = self.config.ttl;
        let mut types = vec![(TYPE_CNAME, render::exact(owner, &[(owner, Data::Alias(target), ttl)], &[]))];
        match chain {
            Chain::Nodata => {}
            Chain::Unknown => types.extend([(TYPE_A, Verdict::Pass), (TYPE_AAAA, Verdict::Pass)]),
            Chain::Addresses(names, addresses) => {
                let owners = std::iter::once(owner).chain(names);
                let aliases: Vec<_> = owners.zip(names).map(|(owner, n)| (owner, Data::Alias(n), ttl)).collect();
                let last = names.last().unwrap_or(owner);
                for (qtype, addresses) in by_family(addresses).into_iter().filter(|(_, a)| !a.is_empty()) {
                    let addresses = addresses.into_iter().map(|a| (last, Data::Address(a), ttl));
                    let answers: Vec<_> = aliases.iter().cloned().chain(addresses).collect();
                    types.push((qtype, render::exact(owner, &answers, &[])));
                }
            }
        }
        Node {
            types,
            fallback: self.negatives(gate).nodata.clone(),
            child: self.negatives(gate).missing.clone(),
            deep: self.negatives(gate).missing.clone(),
            ..node(Vec::new())
        }
    }

    /// The node of a reverse name.
    pub(super) fn pointer(&self, owner: &Name, address: IpAddr, pointer: &Pointer<'_>) -> Node {
        let targets: Option<Vec<Name>> = match *pointer {
            Pointer::Service(key) => self.service_name(key).map(|n| vec![n]),
            Pointer::Endpoints(endpoints) if endpoints.len() > RRS_MAX => None,
            Pointer::Endpoints(endpoints) => endpoints
                .iter()
                .map(|(key, hostname)| {
                    let label = Endpoint { address, hostname: hostname.clone() }.label();
                    self.service_name(key)?.child(&label).ok()
                })
                .collect(),
        };
        // CoreDNS sends no reply if a target is too long for a name, so the query passes.
        let verdict = targets.map_or(Verdict::Pass, |mut targets| {
            targets.sort_unstable();
            targets.dedup();
            let answers: Vec<_> = targets.iter().map(|t| (owner, Data::Pointer(t), self.config.ttl)).collect();
            render::exact(owner, &answers, &[])
        });
        node(vec![(TYPE_PTR, verdict)])
    }

    /// The reverse name of an address, and its node if a Service or an endpoint has the address. None if the address has no
    /// reverse name.
    pub(super) fn reverse(&self, address: IpAddr, pointer: Option<&Pointer<'_>>) -> Option<(Name, Option<Node>)> {
        let name = reverse::name_of(address)?;
        let node = pointer.map(|p| self.pointer(&name, address, p));
        Some((name, node))
    }
}

fn by_family(addresses: &[IpAddr]) -> [(u16, Vec<IpAddr>); 2] {
    let (v4, v6) = addresses.iter().partition(|a| a.is_ipv4());
    [(TYPE_A, v4), (TYPE_AAAA, v6)]
}

/// The name at `relative` below `base`.
pub(super) fn below(base: &Name, relative: &str) -> Option<Name> {
    if relative.is_empty() {
        return Some(base.clone());
    }
    base.below(relative.split('.')).ok()
}
