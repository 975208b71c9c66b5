//! Random questions, mostly for names that may exist and for names close to them.

use hickory_proto::rr::RecordType::{
    self, A, AAAA, ANY, CAA, CNAME, DS, HTTPS, MX, NAPTR, NS, PTR, SOA, SRV, SVCB, TXT, Unknown,
};

use crate::objects::{HOSTNAMES, HOSTS, LARGE, NAMESPACES, SERVICES, SILENT, V4, V6};
use crate::rng::Rng;
use crate::static_names;

const TYPES: [RecordType; 16] = [A, A, A, A, AAAA, AAAA, AAAA, SRV, SRV, SRV, CNAME, TXT, MX, HTTPS, SOA, NS];
/// Types that are asked for rarely.
const RARE: [RecordType; 8] = [ANY, CAA, DS, NAPTR, PTR, SVCB, Unknown(250), Unknown(65280)];
/// Labels before the name of a Service.
const RELATIVES: [&str; 30] = [
    "_http._tcp.",
    "_https._tcp.",
    "_dns._udp.",
    "_dns-tcp._tcp.",
    "_any._sctp.",
    "_alt._tcp.",
    "_._tcp.",
    "_._udp.",
    "_._sctp.",
    "_._.",
    "_.",
    "_tcp.",
    "http.tcp.",
    "_http.tcp.",
    "_http._udp.",
    "_nobody._tcp.",
    "x.",
    "x.y.",
    "x.y.z.",
    "x.h1.",
    "_http._tcp.h1.",
    "x._._.",
    "*.",
    "*._tcp.",
    "any.",
    "_http.",
    "_tcp._http.",
    "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.",
    "a-b-example.",
    "web-n0-svc-cluster-local.",
];
/// Labels before the name of the zone.
const STRUCTURE: [&str; 20] = [
    "",
    "svc.",
    "pod.",
    "dns.",
    "ns.dns.",
    "dns-version.",
    "x.dns-version.",
    "x.",
    "x.y.",
    "n0.",
    "web.n0.",
    "gone.svc.",
    "web.gone.svc.",
    "x.svc.",
    "*.",
    "*.svc.",
    "*.n0.svc.",
    "kubernetes.default.svc.",
    "kube-dns.kube-system.svc.",
    "_dns._udp.kube-dns.kube-system.svc.",
];
const PODS: [&str; 11] = [
    "",
    "*.",
    "10-0-0-999.",
    "10-0-0-9.",
    "1-2-3.",
    "fd00--9.",
    "0--ffff-a00-9.",
    "x.",
    "x.10-0-0-9.",
    "x.y.10-0-0-9.",
    "x.y.z.10-0-0-9.",
];
const ELSEWHERE: [&str; 10] = [
    "www.example.org",
    "example.org",
    "local",
    "acluster.local",
    "in-addr.arpa",
    "96.10.in-addr.arpa",
    "01.7.96.10.in-addr.arpa",
    "x.1.7.96.10.in-addr.arpa",
    "ip6.arpa",
    "1.0.a.7.8.0.f.4.0.1.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
];

pub fn random(rng: &mut Rng) -> (String, RecordType) {
    let ns = if rng.one_in(16) { "gone" } else { *rng.pick(&NAMESPACES) };
    let service = if rng.one_in(16) { "nobody" } else { *rng.pick(&SERVICES) };
    let rtype = if rng.one_in(30) { *rng.pick(&RARE) } else { *rng.pick(&TYPES) };
    let name = match rng.below(20) {
        0 => format!("{}cluster.local", rng.pick(&STRUCTURE)),
        1 => format!("{}{ns}.pod.cluster.local", rng.pick(&PODS)),
        2 if rng.one_in(2) => rng.pick(&ELSEWHERE).to_string(),
        2 => rng.pick(&static_names::NAMES).to_string(),
        3 => format!("{ns}.svc.cluster.local"),
        4 => {
            // Names as a resolver's search list forms them.
            let typed =
                [format!("{service}.{ns}.svc.cluster.local"), "www.example.org".into(), format!("{service}.{ns}")];
            format!(
                "{}.{}",
                rng.pick(&typed),
                rng.pick(&["n0.svc.cluster.local", "svc.cluster.local", "cluster.local"])
            )
        }
        5 | 6 => {
            let address = match rng.below(48) {
                0 => SILENT,
                1..17 => *rng.pick(&V6),
                _ => *rng.pick(&V4),
            };
            return (reverse(address), if rng.one_in(8) { rtype } else { PTR });
        }
        7..=9 => format!("{}{service}.{ns}.svc.cluster.local", rng.pick(&RELATIVES)),
        10 => format!("{}.{service}.{ns}.svc.cluster.local", rng.pick(&HOSTNAMES)),
        11 | 12 => {
            let address = match rng.below(12) {
                0 => format!("{LARGE}{}", rng.below(200)),
                1 => rng.pick(&HOSTS).to_string(),
                2..=5 => rng.pick(&V6).to_string(),
                _ => rng.pick(&V4).to_string(),
            };
            format!("{}.{service}.{ns}.svc.cluster.local", dashed(&address))
        }
        _ => format!("{service}.{ns}.svc.cluster.local"),
    };
    (if rng.one_in(4) { random_case(rng, &name) } else { name }, rtype)
}

fn dashed(address: &str) -> String {
    let label = address.replace(['.', ':'], "-");
    if label.ends_with('-') { label + "0" } else { label }
}

fn reverse(address: &str) -> String {
    match address.parse().unwrap() {
        std::net::IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        std::net::IpAddr::V6(a) => {
            let nibbles = a.octets().into_iter().rev().flat_map(|o| [o & 15, o >> 4]);
            nibbles.map(|n| format!("{n:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Random case, as resolvers send that check the case of replies.
fn random_case(rng: &mut Rng, name: &str) -> String {
    name.chars().map(|c| if rng.one_in(2) { c.to_ascii_uppercase() } else { c }).collect()
}
