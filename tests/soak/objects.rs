//! The objects that change, and the answers of each of their versions.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::client::Reply;

/// The number of a version, which its addresses encode. None: the object doesn't exist.
pub type State = Option<u16>;

/// Versions wrap long after the old ones were visible.
pub const VERSIONS: u16 = 4000;
const SERVICES: u8 = 8;
const HEADLESS: u8 = 8;

#[derive(Clone, Copy)]
pub enum Object {
    /// A Service with addresses of both families and one port, all of which encode the version. An alias to it exists all the
    /// time.
    Service(u8),
    /// A slice of a headless Service that exists all the time: one to five endpoints, the first of which has a hostname.
    Slice(u8),
}

/// Kinds that are watched, each by a watch of its own.
pub const KINDS: usize = 2;

pub struct Question {
    pub name: String,
    pub rtype: RecordType,
    reply: Box<dyn Fn(State) -> Reply + Send + Sync>,
}

pub fn all() -> Vec<Object> {
    (0..SERVICES).map(Object::Service).chain((0..HEADLESS).map(Object::Slice)).collect()
}

/// Objects that exist all the time: the Services of the slices, and aliases.
pub fn lasting() -> Vec<Value> {
    let headless = (0..HEADLESS).map(|i| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("h{i}")},
            "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}})
    });
    let aliases = (0..SERVICES).map(|i| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("e{i}")},
            "spec": {"type": "ExternalName", "externalName": service(i)}})
    });
    headless.chain(aliases).collect()
}

fn service(i: u8) -> String {
    format!("s{i}.default.svc.cluster.local")
}

fn headless(i: u8) -> String {
    format!("h{i}.default.svc.cluster.local")
}

fn cluster_ip(i: u8, version: u16) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_1000 + (u32::from(i) << 12) + u32::from(version))
}

fn cluster_ip6(i: u8, version: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x1000 + (u16::from(i) << 12) + version)
}

fn endpoints(i: u8, version: u16) -> Vec<Ipv4Addr> {
    let [high, low] = version.to_be_bytes();
    (0..=(version % 5) as u8).map(|n| Ipv4Addr::new(10, 128 + i * 8 + n, high, low)).collect()
}

/// The name of an endpoint, below its Service.
fn endpoint_name(i: u8, n: usize, address: Ipv4Addr) -> String {
    let first = if n == 0 { "first".into() } else { address.to_string().replace('.', "-") };
    format!("{first}.{}", headless(i))
}

impl Object {
    pub fn name(self) -> String {
        match self {
            Self::Service(i) => format!("s{i}"),
            Self::Slice(i) => format!("h{i}-a"),
        }
    }

    /// A number below [`KINDS`].
    pub const fn kind(self) -> usize {
        match self {
            Self::Service(_) => 0,
            Self::Slice(_) => 1,
        }
    }

    /// The object for the API server.
    pub fn manifest(self, version: u16) -> Value {
        match self {
            Self::Service(i) => {
                let (v4, v6) = (cluster_ip(i, version), cluster_ip6(i, version));
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name()}, "spec": {
                    "ipFamilyPolicy": "RequireDualStack", "clusterIP": v4, "clusterIPs": [v4, v6],
                    "ports": [{"name": "http", "port": 1 + version}]}})
            }
            Self::Slice(i) => {
                let endpoint = |(n, address): (usize, Ipv4Addr)| {
                    let hostname = (n == 0).then_some("first");
                    json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": true}})
                };
                let endpoints: Vec<Value> = endpoints(i, version).into_iter().enumerate().map(endpoint).collect();
                json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {"name": self.name(), "labels": {"kubernetes.io/service-name": format!("h{i}")}},
                    "endpoints": endpoints, "ports": [{"name": "http", "port": 1 + version}]})
            }
        }
    }

    pub fn questions(self) -> Vec<Question> {
        use RecordType::{A, AAAA, SRV};
        match self {
            Self::Service(i) => {
                let (name, port, alias) =
                    (service(i), format!("_http._tcp.{}", service(i)), format!("e{i}.default.svc.cluster.local"));
                vec![
                    ask(&name, A, move |v| found([a(&service(i), cluster_ip(i, v))], [])),
                    ask(&name, AAAA, move |v| found([aaaa(&service(i), cluster_ip6(i, v))], [])),
                    ask(&port.clone(), SRV, move |v| {
                        let additional = [a(&service(i), cluster_ip(i, v)), aaaa(&service(i), cluster_ip6(i, v))];
                        found([srv(&port, 100 / additional.len(), v, &service(i))], additional)
                    }),
                    Question {
                        name: alias.clone(),
                        rtype: A,
                        reply: Box::new(move |state| match state {
                            Some(v) => {
                                let cname = format!("{alias}. cname {}.", service(i));
                                found([cname, a(&service(i), cluster_ip(i, v))], [])
                            }
                            None => nothing("NoError"),
                        }),
                    },
                ]
            }
            Self::Slice(i) => {
                let (name, first, port) =
                    (headless(i), format!("first.{}", headless(i)), format!("_http._tcp.{}", headless(i)));
                vec![
                    ask(&name, A, move |v| found(endpoints(i, v).into_iter().map(|e| a(&headless(i), e)), [])),
                    ask(&first.clone(), A, move |v| found([a(&first, endpoints(i, v)[0])], [])),
                    ask(&port.clone(), SRV, move |v| {
                        let all = endpoints(i, v);
                        let target = |n: usize| endpoint_name(i, n, all[n]);
                        let weight = 100 / all.len();
                        found(
                            (0..all.len()).map(|n| srv(&port, weight, v, &target(n))),
                            (0..all.len()).map(|n| a(&target(n), all[n])),
                        )
                    }),
                ]
            }
        }
    }
}

impl Question {
    pub fn reply(&self, state: State) -> Reply {
        (self.reply)(state)
    }

    pub fn text(&self) -> String {
        format!("{} {}", self.name, self.rtype)
    }
}

/// A question for a name that doesn't exist without its object.
fn ask(name: &str, rtype: RecordType, reply: impl Fn(u16) -> Reply + Send + Sync + 'static) -> Question {
    let reply = move |state: State| state.map_or_else(|| nothing("NXDomain"), &reply);
    Question { name: name.to_owned(), rtype, reply: Box::new(reply) }
}

fn found(answer: impl IntoIterator<Item = String>, additional: impl IntoIterator<Item = String>) -> Reply {
    Reply {
        rcode: "NoError".into(),
        aa: true,
        answer: answer.into_iter().collect(),
        authority: BTreeSet::new(),
        additional: additional.into_iter().collect(),
    }
}

fn nothing(rcode: &str) -> Reply {
    let soa = "cluster.local. soa ns.dns.cluster.local. hostmaster.cluster.local.";
    Reply { rcode: rcode.into(), answer: BTreeSet::new(), authority: [soa.to_owned()].into(), ..found([], []) }
}

fn a(name: &str, address: Ipv4Addr) -> String {
    format!("{name}. a {address}")
}

fn aaaa(name: &str, address: Ipv6Addr) -> String {
    format!("{name}. aaaa {address}")
}

fn srv(name: &str, weight: usize, version: u16, target: &str) -> String {
    format!("{name}. srv 0 {weight} {} {target}.", 1 + version)
}
