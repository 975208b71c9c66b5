//! The kubernetes plugin of CoreDNS 1.15 (`pods insecure`, `ttl 30`), function by function, and the queries that eDNS passes to
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use super::*;

/// The objects of the API, as CoreDNS gets them.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub namespaces: BTreeSet<String>,
    pub services: BTreeMap<Key, ServiceSpec>,
    pub slices: BTreeMap<Key, SliceSpec>,
}

/// A reply as sets of records, each `owner ttl type data`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    pub rcode: u16,
    pub answers: BTreeSet<String>,
    pub authorities: BTreeSet<String>,
    pub additionals: BTreeSet<String>,
}

/// `msg.Service`; its key is a name here.
struct Item {
    host: String,
    port: i32,
    key: String,
}

/// The reason why a name has no items.
enum Failure {
    Nxdomain,
    /// CoreDNS would ask another server.
    Recursion,
}

type Records = Result<Vec<String>, Failure>;

pub fn soa() -> String {
    format!("{ZONE}. 30 SOA ns.dns.{ZONE}. hostmaster.{ZONE}. {SERIAL} 7200 1800 86400 30")
}

fn host_label(address: &str, endpoint: &EndpointSpec) -> String {
    if let Some(hostname) = &endpoint.hostname {
        return hostname.clone();
    }
    if address.contains('.') {
        return address.replace('.', "-");
    }
    let label = address.replace(':', "-");
    if label.ends_with('-') { label + "0" } else { label }
}

fn strip(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

/// The labels in front of those of the zone; None for names outside it.
fn base(name: &str) -> Option<Vec<&str>> {
    if name == ZONE {
        return Some(Vec::new());
    }
    Some(name.strip_suffix(ZONE)?.strip_suffix('.')?.split('.').collect())
}

fn slice_ports(ports: &[PortSpec]) -> Vec<(String, String, i32)> {
    if ports.is_empty() {
        return vec![(String::new(), String::new(), -1)];
    }
    ports.iter().map(|p| (p.name.clone(), p.protocol.to_lowercase(), p.port.map_or(-1, i32::from))).collect()
}

fn matches(port: &str, protocol: &str, of: &(String, String, i32)) -> bool {
    (port.is_empty() || port == of.0) && (protocol.is_empty() || protocol == of.1)
}

impl World {
    /// `Records`, with `parseRequest` and `findPods`.
    fn records(&self, name: &str) -> Result<Vec<Item>, Failure> {
        let mut labels = base(name).ok_or(Failure::Nxdomain)?;
        let Some(branch) = labels.pop() else { return Ok(Vec::new()) };
        if branch != "svc" && branch != "pod" {
            return Err(Failure::Nxdomain);
        }
        let Some(namespace) = labels.pop() else { return Ok(Vec::new()) };
        let service = labels.pop();
        if labels.len() > 2 || !self.namespaces.contains(namespace) {
            return Err(Failure::Nxdomain);
        }
        let Some(service) = service else { return Ok(Vec::new()) };
        if branch == "pod" {
            let v4 = service.matches('-').count() == 3 && !service.contains("--");
            let host = service.replace('-', if v4 { "." } else { ":" });
            host.parse::<IpAddr>().map_err(|_| Failure::Nxdomain)?;
            return Ok(vec![Item { host, port: 0, key: name.into() }]);
        }
        let (endpoint, port, protocol) = match labels[..] {
            [endpoint] => (endpoint, "", ""),
            [port, protocol] => ("", strip(port), strip(protocol)),
            _ => ("", "", ""),
        };
        self.services(namespace, service, endpoint, port, protocol)
    }

    /// `findServices`
    fn services(&self, ns: &str, name: &str, endpoint: &str, port: &str, protocol: &str) -> Result<Vec<Item>, Failure> {
        let service = self.services.get(&Key::new(ns, name)).ok_or(Failure::Nxdomain)?;
        let key = format!("{name}.{ns}.svc.{ZONE}");
        let mut found = Vec::new();
        if let Some(target) = &service.external_name {
            if !endpoint.is_empty() || !port.is_empty() || !protocol.is_empty() || target.parse::<IpAddr>().is_ok() {
                return Err(Failure::Nxdomain);
            }
            return Ok(vec![Item { host: target.clone(), port: 0, key }]);
        }
        if service.cluster_ips[0] == "None" || !endpoint.is_empty() {
            for slice in self.slices_of(ns, name) {
                for e in slice.endpoints.iter().filter(|e| e.ready) {
                    for address in &e.addresses {
                        let label = host_label(address, e);
                        if !endpoint.is_empty() && endpoint != label {
                            continue;
                        }
                        for p in slice_ports(&slice.ports).iter().filter(|p| matches(port, protocol, p)) {
                            found.push(Item { host: address.clone(), port: p.2, key: format!("{label}.{key}") });
                        }
                    }
                }
            }
            return if found.is_empty() { Err(Failure::Nxdomain) } else { Ok(found) };
        }
        let ports = slice_ports(&service.ports);
        let matching: Vec<_> = ports.iter().filter(|p| matches(port, protocol, p)).collect();
        for p in &matching {
            for ip in &service.cluster_ips {
                found.push(Item { host: ip.clone(), port: p.2, key: key.clone() });
            }
        }
        if matching.is_empty() { Err(Failure::Nxdomain) } else { Ok(found) }
    }

    fn slices_of<'a>(&'a self, ns: &'a str, name: &'a str) -> impl Iterator<Item = &'a SliceSpec> {
        self.slices
            .iter()
            .filter(move |(k, s)| *k.namespace == *ns && s.service.as_deref() == Some(name))
            .map(|(_, s)| s)
    }

    /// `plugin.A` and `plugin.AAAA`
    fn addresses(&self, name: &str, v4: bool, previous: &[(String, String)]) -> Records {
        let mut out = Vec::new();
        for item in self.records(name)? {
            // `HostType`, which counts an IPv4-mapped IPv6 address as IPv4.
            match item.host.parse::<IpAddr>().map(|a| a.to_canonical()) {
                Ok(a) if a.is_ipv4() == v4 => out.push(format!("{name}. 30 {} {a}", if v4 { "A" } else { "AAAA" })),
                Ok(_) => {}
                Err(_) => {
                    let target = item.host.trim_end_matches('.').to_owned();
                    let alias = (name.to_owned(), target.clone());
                    if target == name || target.ends_with(&format!(".{name}")) {
                        continue;
                    }
                    if previous.len() > 10 || previous.contains(&alias) {
                        continue;
                    }
                    if base(&target).is_none() || target.ends_with(&format!("dns.{ZONE}")) {
                        return Err(Failure::Recursion);
                    }
                    let record = format!("{name}. 30 CNAME {target}.");
                    let previous: Vec<_> = previous.iter().cloned().chain([alias]).collect();
                    match self.addresses(&target, v4, &previous) {
                        Ok(next) if !next.is_empty() => out.extend([record].into_iter().chain(next)),
                        Err(Failure::Recursion) => return Err(Failure::Recursion),
                        _ => {}
                    }
                }
            }
        }
        Ok(out)
    }

    /// `plugin.SRV`: answers and additional records.
    fn srv(&self, name: &str) -> Result<[Vec<String>; 2], Failure> {
        let items: Vec<Item> = self.records(name)?.into_iter().filter(|i| i.host.parse::<IpAddr>().is_ok()).collect();
        let weight = (100.0 / (items.len() * 100) as f64 * 100.0).floor().max(1.0);
        let (mut records, mut extra) = (Vec::new(), Vec::new());
        for item in items.iter().filter(|i| i.port != -1) {
            records.push(format!("{name}. 30 SRV 0 {weight} {} {}.", item.port, item.key));
            let family = if item.host.contains(':') { "AAAA" } else { "A" };
            extra.push(format!("{}. 30 {family} {}", item.key, item.host));
        }
        Ok([records, extra])
    }

    /// `serviceRecordForIP`. An empty list: CoreDNS does not answer from the zone. None: a target is too long for a name, and
    /// CoreDNS sends no reply.
    fn ptr(&self, name: &str) -> Option<Vec<String>> {
        let address = reverse::address_of(&Name::parse(name).unwrap()).map(|a| a.to_string()).unwrap_or_default();
        if let Some((key, _)) = self.services.iter().find(|(_, s)| s.cluster_ips.contains(&address)) {
            return Some(vec![format!("{name}. 30 PTR {}.{}.svc.{ZONE}.", key.name, key.namespace)]);
        }
        let mut out = Vec::new();
        for (key, slice) in &self.slices {
            for e in slice.endpoints.iter().filter(|e| e.ready) {
                for a in e.addresses.iter().filter(|a| **a == address) {
                    let (label, service) = (host_label(a, e), slice.service.as_ref()?);
                    out.push(format!("{name}. 30 PTR {label}.{service}.{}.svc.{ZONE}.", key.namespace));
                }
            }
        }
        Some(out)
    }

    /// CoreDNS' reply; None if it would ask another server, can't encode the reply, or does not serve the name.
    pub fn server(&self, name: &str, qtype: u16) -> Option<Reply> {
        if base(name).is_none() {
            let answers: BTreeSet<String> = self.ptr(name)?.into_iter().collect();
            return (qtype == PTR && !answers.is_empty()).then(|| Reply { answers, ..Reply::default() });
        }
        let mut additional = Vec::new();
        let records = match qtype {
            A => self.addresses(name, true, &[]),
            AAAA => self.addresses(name, false, &[]),
            SRV => self.srv(name).map(|[records, extra]| {
                additional = extra;
                records
            }),
            CNAME => self.records(name).map(|items| {
                let first = items.first().filter(|i| i.host.parse::<IpAddr>().is_err());
                first.map(|i| format!("{name}. 30 CNAME {}.", i.host.trim_end_matches('.'))).into_iter().collect()
            }),
            TXT if base(name).is_some_and(|b| b == ["dns-version"]) => Ok(vec![format!("{name}. 28800 TXT 1.1.0")]),
            TXT => match self.records(name) {
                Ok(items) if !items.is_empty() => Ok(Vec::new()),
                _ => Err(Failure::Nxdomain),
            },
            SOA if name == ZONE => Ok(vec![soa()]),
            PTR | MX => self.records(name).map(|_| Vec::new()),
            // CoreDNS looks A up and uses only the failure.
            _ => self.records(name).map(|_| Vec::new()),
        };
        let negative = |rcode| Reply { rcode, authorities: [soa()].into(), ..Reply::default() };
        match records {
            Err(Failure::Recursion) => None,
            Err(Failure::Nxdomain) => Some(negative(3)),
            Ok(records) if records.is_empty() => Some(negative(0)),
            Ok(records) => Some(Reply {
                answers: records.into_iter().collect(),
                additionals: additional.into_iter().collect(),
                ..Reply::default()
            }),
        }
    }

    /// Whether eDNS passes the query, although CoreDNS answers it.
    fn passes(&self, name: &str, qtype: u16) -> bool {
        let Some(labels) = base(name) else { return false };
        if (qtype == SOA && name != ZONE) || qtype == NS || labels.last() == Some(&"dns") {
            return true;
        }
        if qtype == TXT && labels.len() <= 2 && self.server(name, A).is_some_and(|r| r.rcode == 0) {
            return true;
        }
        match labels[..] {
            [.., _, _, "pod"] => true,
            [ref below @ .., service, namespace, "svc"] if self.namespaces.contains(namespace) => {
                let Some(spec) = self.services.get(&Key::new(namespace, service)) else { return false };
                if let Some(target) = &spec.external_name {
                    // CoreDNS answers with the alias.
                    return below.ends_with(&["_", "_"]) && target.parse::<IpAddr>().is_err();
                }
                // CoreDNS takes the first item, and their order is not defined.
                let is_alias = |items: Vec<Item>| items.iter().any(|i| i.host.parse::<IpAddr>().is_err());
                if qtype == CNAME && self.records(name).is_ok_and(is_alias) {
                    return true;
                }
                let lives = self.services(namespace, service, "", "", "").is_ok();
                let held = below.len() == 2
                    && below.iter().all(|l| l.starts_with('_') && l.len() <= 64)
                    && below[1].len() > 1
                    && self.has_port(spec, namespace, service, strip(below[0]), strip(below[1]));
                lives && below.len() >= 2 && !held
            }
            _ => false,
        }
    }

    /// Whether the Service has a port of exactly this name and protocol.
    fn has_port(&self, spec: &ServiceSpec, ns: &str, service: &str, port: &str, protocol: &str) -> bool {
        let is = |p: &(String, String, i32)| p.0 == port && p.1 == protocol;
        if spec.cluster_ips[0] != "None" {
            return slice_ports(&spec.ports).iter().any(is);
        }
        let ready = |s: &&SliceSpec| s.endpoints.iter().any(|e| e.ready && !e.addresses.is_empty());
        self.slices_of(ns, service).filter(ready).any(|s| slice_ports(&s.ports).iter().any(is))
    }

    /// eDNS' reply; None if the query passes.
    pub fn expected(&self, name: &str, qtype: u16) -> Option<Reply> {
        if self.passes(name, qtype) { None } else { self.server(name, qtype) }
    }

    /// All objects, one a line.
    pub fn describe(&self) -> String {
        let mut out = format!("{:?}\n", self.namespaces);
        self.services.iter().for_each(|s| writeln!(out, "{s:?}").unwrap());
        self.slices.iter().for_each(|s| writeln!(out, "{s:?}").unwrap());
        out
    }

    /// A new index over the objects, and the changes of its first commit.
    pub fn build(&self, config: ClusterConfig) -> (Cluster, Vec<Change>) {
        let mut cluster = Cluster::new(config);
        cluster.replace_namespaces(&self.namespaces);
        cluster.replace_services(self.services.clone());
        cluster.replace_slices(self.slices.clone());
        let changes = cluster.commit();
        (cluster, changes)
    }
}

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const HTTPS: u16 = 65;
pub const TYPES: [u16; 10] = [A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, HTTPS];
