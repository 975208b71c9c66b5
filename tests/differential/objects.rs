//! Random objects with few names and values, so that they collide.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::rng::Rng;
use crate::writer::Write;

pub const NAMESPACES: [&str; 3] = ["n0", "n1", "n2"];
/// The last name has the greatest length of a label.
pub const SERVICES: [&str; 7] =
    ["web", "db", "ext", "to", "tcp", "x1", "a-name-of-sixty-three-octets-which-is-all-that-a-label-may-have"];
/// Names of slices, which state the type of their addresses.
const SLICES: [&str; 5] = ["a4", "b4", "c4", "a6", "fq"];
pub const V4: [&str; 7] =
    ["10.244.8.1", "10.244.8.2", "10.244.8.3", "10.244.8.4", "10.244.8.5", "10.96.7.1", "10.96.7.9"];
/// Some in unusual notation, and one that is IPv4-mapped.
pub const V6: [&str; 9] = [
    "fd00:244:8::1",
    "fd00:244:8::",
    "fd00:244:8::1:0",
    "fd00:244::8:1",
    "fd00:10:96::7:1",
    "FD00:244:8::A",
    "fd00:0244:8::b",
    "fd00:244:8:0:0:0:0:c",
    "::ffff:10.244.8.1",
];
/// The address of slices without a label, and sometimes of others.
pub const SILENT: &str = "10.244.8.99";
/// Values of the label that no Service's name has.
const NOBODY: [&str; 6] = ["nobody", "x.y", "Web", "a_b", "svc", "_tcp"];
/// Addresses of large slices; the last octet counts up.
pub const LARGE: &str = "10.244.9.";
pub const HOSTS: [&str; 3] = ["www.example.org", "web.n0.svc.cluster.local", "a.b.example"];
pub const HOSTNAMES: [&str; 5] = ["h1", "tcp", "db-0", "10-244-8-1", "www-example-org"];
/// Ports of Services and slices: name, protocol, number.
const PORTS: [(&str, &str, i64); 6] = [
    ("http", "TCP", 80),
    ("https", "TCP", 443),
    ("dns", "UDP", 53),
    ("dns-tcp", "TCP", 53),
    ("any", "SCTP", 7),
    ("alt", "TCP", 8080),
];
/// Numbers that the API accepts in slices only.
const ODD_PORTS: [i64; 7] = [0, -1, -5, 65_535, 65_536, 70_000, i32::MIN as i64];
const TARGETS: [&str; 34] = [
    "www.example.org",
    "nobody.example.org",
    "web.n0.svc.cluster.local",
    "web.n1.svc.cluster.local",
    "db.n0.svc.cluster.local",
    "db.n2.svc.cluster.local",
    "ext.n0.svc.cluster.local",
    "ext.n1.svc.cluster.local",
    "to.n0.svc.cluster.local",
    "to.n2.svc.cluster.local",
    "h1.db.n0.svc.cluster.local",
    "10-244-8-1.web.n1.svc.cluster.local",
    "http.tcp.web.n0.svc.cluster.local",
    "a.b.c.web.n0.svc.cluster.local",
    "nobody.n0.svc.cluster.local",
    "kube-dns.kube-system.svc.cluster.local",
    "10-0-0-9.n0.pod.cluster.local",
    "0--ffff-a00-9.n2.pod.cluster.local",
    "fd00--9.n1.pod.cluster.local",
    "x.y.10-0-0-9.n0.pod.cluster.local",
    "x.n0.pod.cluster.local",
    "n0.svc.cluster.local",
    "svc.cluster.local",
    "cluster.local",
    "ns.dns.cluster.local",
    "dns-version.cluster.local",
    "x.cluster.local",
    "web.n0.svc.cluster.local.",
    "www.example.org.",
    "web",
    "acluster.local",
    "1.7.96.10.in-addr.arpa",
    "kubernetes.default.svc.cluster.local",
    "192.0.2.7",
];

/// The existing objects by their paths.
#[derive(Default)]
pub struct Objects(BTreeMap<String, Value>);

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, object)| writeln!(f, "{path} {object}"))
    }
}

impl Objects {
    /// The objects at the start.
    pub fn first(&self) -> Vec<Write> {
        NAMESPACES.iter().map(|name| Write { path: namespace(name), object: Some(namespace_object(name)) }).collect()
    }

    /// Records the outcome of a write. Returns a line about it.
    pub fn note(&mut self, write: &Write, done: Result<(), String>) -> String {
        let Write { path, object } = write;
        let what = object.as_ref().map_or_else(|| "gone".into(), Value::to_string);
        match done {
            Err(why) => return format!("{path} refused: {why}: {what}"),
            Ok(()) => match object {
                Some(object) => drop(self.0.insert(path.clone(), object.clone())),
                None => drop(self.0.remove(path)),
            },
        }
        format!("{path} {what}")
    }

    /// A random change of a random object.
    pub fn random(&self, rng: &mut Rng) -> Write {
        let ns = *rng.pick(&NAMESPACES);
        let path = namespace(ns);
        let is_there = self.0.contains_key(&path);
        match rng.below(20) {
            // Without the namespace most other writes are refused.
            0 if is_there => Write { path, object: None },
            0..10 if !is_there => Write { path, object: Some(namespace_object(ns)) },
            0..=9 => self.service(rng, ns),
            _ => {
                let name = *rng.pick(&SLICES);
                let path = format!("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices/{name}");
                let goes = rng.one_in(4) && self.0.contains_key(&path);
                Write { path, object: (!goes).then(|| slice(rng, name)) }
            }
        }
    }

    fn service(&self, rng: &mut Rng, ns: &str) -> Write {
        let at = rng.below(SERVICES.len());
        let name = SERVICES[at];
        let path = format!("/api/v1/namespaces/{ns}/services/{name}");
        let old = self.0.get(&path).map(|object| &object["spec"]);
        if old.is_some() && rng.one_in(2) {
            return Write { path, object: None };
        }
        // The type of a Service doesn't change.
        let what = match old {
            Some(spec) if spec["type"] == "ExternalName" => 0,
            Some(spec) if spec["clusterIP"] == "None" => 1,
            Some(spec) if spec["ipFamilyPolicy"] == "RequireDualStack" => 2,
            Some(spec) if spec["ipFamilies"].is_array() => 3,
            Some(_) => 4,
            None => *rng.pick(&[0, 0, 1, 1, 1, 2, 3, 4]),
        };
        let number = 1 + at + 8 * NAMESPACES.iter().position(|n| *n == ns).unwrap_or(0);
        let (v4, v6) = (format!("10.96.7.{number}"), format!("fd00:10:96::7:{number}"));
        let spec = match what {
            0 => json!({"type": "ExternalName", "externalName": rng.pick(&TARGETS), "ports": ports(rng, 0)}),
            1 => json!({"clusterIP": "None", "publishNotReadyAddresses": rng.one_in(4), "ports": ports(rng, 0)}),
            2 => {
                json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": v4, "clusterIPs": [v4, v6], "ports": ports(rng, 1)})
            }
            3 => json!({"ipFamilies": ["IPv6"], "clusterIP": v6, "ports": ports(rng, 1)}),
            _ => json!({"clusterIP": v4, "externalIPs": ["192.0.2.8"], "ports": ports(rng, 1)}),
        };
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
        Write { path, object: Some(object) }
    }
}

fn namespace(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}

fn namespace_object(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Random ports, at least this many. A single one may have no name.
fn ports(rng: &mut Rng, least: usize) -> Value {
    if rng.one_in(4) {
        return json!([{"port": 1 + rng.below(9), "protocol": rng.pick(&["TCP", "UDP", "SCTP"])}]);
    }
    let from = rng.below(PORTS.len());
    let count = least + rng.below(3);
    let some = (0..count).map(|i| {
        let (name, protocol, port) = PORTS[(from + i) % PORTS.len()];
        json!({"name": name, "protocol": protocol, "port": port})
    });
    some.collect()
}

fn slice(rng: &mut Rng, name: &str) -> Value {
    let (kind, pool): (&str, &[&str]) = match name {
        "a6" => ("IPv6", &V6),
        "fq" => ("FQDN", &HOSTS),
        _ => ("IPv4", &V4),
    };
    let is_large = kind == "IPv4" && rng.one_in(12);
    let count = if is_large { 20 + rng.below(180) } else { rng.below(5) };
    let endpoints: Vec<Value> = (0..count)
        .map(|i| {
            let hostname = rng.one_in(3).then(|| rng.pick(&HOSTNAMES));
            let mut addresses: Vec<String> = (0..1 + rng.below(6) / 4).map(|_| rng.pick(pool).to_string()).collect();
            addresses.dedup();
            if kind == "IPv4" && rng.one_in(20) {
                addresses = vec![SILENT.to_owned()];
            }
            if is_large {
                addresses = vec![format!("{LARGE}{i}")];
            }
            let ready = rng.pick(&[json!(true), json!(true), json!(null), json!(false)]).clone();
            let mut conditions = json!({"ready": ready});
            if rng.one_in(4) {
                // A condition that DNS ignores.
                conditions["serving"] = json!(rng.one_in(2));
                conditions["terminating"] = json!(rng.one_in(2));
            }
            json!({"addresses": addresses, "hostname": hostname, "conditions": conditions})
        })
        .collect();
    let mut ports = ports(rng, 0);
    for port in ports.as_array_mut().into_iter().flatten() {
        if !rng.one_in(4) {
            continue;
        }
        port["port"] = if rng.one_in(4) { json!(null) } else { json!(rng.pick(&ODD_PORTS)) };
    }
    let service = if rng.one_in(8) { *rng.pick(&NOBODY) } else { *rng.pick(&SERVICES) };
    let mut object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints, "ports": ports});
    if kind == "IPv4" && rng.one_in(30) {
        object["metadata"]["labels"] = rng.pick(&[json!({}), json!({"kubernetes.io/service-name": ""})]).clone();
        // CoreDNS doesn't reply to questions for these, and every such question takes a time-out: one address is enough.
        object["endpoints"] = json!([{"addresses": [SILENT]}]);
    }
    object
}
