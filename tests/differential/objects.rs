//! Random objects, of few names and values, so that they meet.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::rng::Rng;
use crate::writer::Write;

pub const NAMESPACES: [&str; 3] = ["n0", "n1", "n2"];
pub const SERVICES: [&str; 6] = ["web", "db", "ext", "to", "tcp", "x1"];
/// Slices by name, which says the type of their addresses.
const SLICES: [&str; 5] = ["a4", "b4", "c4", "a6", "fq"];
pub const V4: [&str; 7] =
    ["10.244.8.1", "10.244.8.2", "10.244.8.3", "10.244.8.4", "10.244.8.5", "10.96.7.1", "10.96.7.9"];
pub const V6: [&str; 5] = ["fd00:244:8::1", "fd00:244:8::", "fd00:244:8::1:0", "fd00:244::8:1", "fd00:10:96::7:1"];
const HOSTS: [&str; 3] = ["www.example.org", "web.n0.svc.cluster.local", "a.b.example"];
pub const HOSTNAMES: [&str; 5] = ["h1", "tcp", "db-0", "10-244-8-1", "www-example-org"];
/// Of Services and slices: name, protocol, number.
const PORTS: [(&str, &str, i64); 6] = [
    ("http", "TCP", 80),
    ("https", "TCP", 443),
    ("dns", "UDP", 53),
    ("dns-tcp", "TCP", 53),
    ("any", "SCTP", 7),
    ("alt", "TCP", 8080),
];
/// That the API takes of slices only.
const ODD_PORTS: [i64; 7] = [0, -1, -5, 65_535, 65_536, 70_000, i32::MIN as i64];
const TARGETS: [&str; 26] = [
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
    "192.0.2.7",
];

/// Those that there are, by their paths.
#[derive(Default)]
pub struct Objects(BTreeMap<String, Value>);

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, object)| writeln!(f, "{path} {object}"))
    }
}

impl Objects {
    /// What is there at first.
    pub fn first(&self) -> Vec<Write> {
        NAMESPACES.iter().map(|name| Write { path: namespace(name), object: Some(namespace_object(name)) }).collect()
    }

    /// Takes note of what became of a write; returns a line on it.
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

    /// A change of one of them.
    pub fn random(&self, rng: &mut Rng) -> Write {
        let ns = *rng.pick(&NAMESPACES);
        match rng.below(20) {
            0 => {
                let path = namespace(ns);
                let object = (!self.0.contains_key(&path)).then(|| namespace_object(ns));
                Write { path, object }
            }
            1..=9 => self.service(rng, ns),
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
        // What it is stays with it.
        let what = match old {
            Some(spec) if spec["type"] == "ExternalName" => 0,
            Some(spec) if spec["clusterIP"] == "None" => 1,
            Some(spec) if spec["clusterIPs"].is_array() => 2,
            Some(_) => 3,
            None => rng.below(4),
        };
        let number = 1 + at + 8 * NAMESPACES.iter().position(|n| *n == ns).unwrap_or(0);
        let (v4, v6) = (format!("10.96.7.{number}"), format!("fd00:10:96::7:{number}"));
        let spec = match what {
            0 => json!({"type": "ExternalName", "externalName": rng.pick(&TARGETS)}),
            1 => json!({"clusterIP": "None", "ports": ports(rng, 0)}),
            2 => {
                json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": v4, "clusterIPs": [v4, v6], "ports": ports(rng, 1)})
            }
            _ => json!({"clusterIP": v4, "ports": ports(rng, 1)}),
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

/// Some, at least so many; a single one may have no name.
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
    let endpoints: Vec<Value> = (0..rng.below(5))
        .map(|_| {
            let hostname = rng.one_in(3).then(|| rng.pick(&HOSTNAMES));
            let ready = rng.pick(&[json!(true), json!(true), json!(null), json!(false)]).clone();
            json!({"addresses": [rng.pick(pool)], "hostname": hostname, "conditions": {"ready": ready}})
        })
        .collect();
    let mut ports = ports(rng, 0);
    for port in ports.as_array_mut().into_iter().flatten() {
        if !rng.one_in(4) {
            continue;
        }
        port["port"] = if rng.one_in(4) { json!(null) } else { json!(rng.pick(&ODD_PORTS)) };
    }
    let service = if rng.one_in(12) { "nobody" } else { *rng.pick(&SERVICES) };
    let mut object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints, "ports": ports});
    if rng.one_in(20) {
        object["metadata"]["labels"] = json!({});
    }
    object
}
