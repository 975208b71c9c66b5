//! Names to ask for: those that the objects of a cluster imply, also as search lists and typing errors form them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::cluster::Cluster;

/// The names of the Services and slices of a namespace.
pub struct Names {
    /// Names of Services.
    pub services: BTreeSet<String>,
    /// Names of ports, as in SRV queries.
    pub ports: BTreeSet<String>,
    /// Names of endpoints.
    pub endpoints: BTreeSet<String>,
    /// Reverse names of ClusterIPs and of ready endpoints.
    pub reverse: BTreeSet<String>,
}

fn items(cluster: &Cluster, kind: &str, namespace: &str) -> Vec<Value> {
    let json: Value = serde_json::from_str(&cluster.ask(&["get", "-n", namespace, kind, "-o", "json"])).unwrap();
    json["items"].as_array().unwrap().clone()
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The names in a namespace now.
pub fn implied(cluster: &Cluster, namespace: &str) -> Names {
    let [mut services, mut ports, mut endpoints, mut reverse] = [const { BTreeSet::new() }; 4];
    let full = |service: &str| format!("{service}.{namespace}.svc.cluster.local");
    let mut add_ports = |owner: &Value, service: &str| {
        for port in array(owner, "ports") {
            let (name, protocol) = (port["name"].as_str().unwrap_or(""), port["protocol"].as_str().unwrap_or("TCP"));
            ports.insert(format!("_{name}._{}.{}", protocol.to_lowercase(), full(service)));
        }
    };
    for service in items(cluster, "services", namespace) {
        let name = service["metadata"]["name"].as_str().unwrap();
        services.insert(full(name));
        add_ports(&service["spec"], name);
        let addresses = array(&service["spec"], "clusterIPs").filter_map(|ip| ip.as_str()?.parse().ok());
        reverse.extend(addresses.map(reverse_of));
    }
    for slice in items(cluster, "endpointslices", namespace) {
        let service = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or("unlabelled");
        add_ports(&slice, service);
        for endpoint in array(&slice, "endpoints") {
            for address in array(endpoint, "addresses").filter_map(Value::as_str) {
                let mut dashed = address.replace(['.', ':'], "-");
                if dashed.ends_with('-') {
                    dashed.push('0');
                }
                endpoints.insert(format!("{dashed}.{}", full(service)));
                if service != "unlabelled" && endpoint["conditions"]["ready"] != false {
                    reverse.extend(address.parse().ok().map(reverse_of));
                }
            }
            endpoints.extend(endpoint["hostname"].as_str().map(|h| format!("{h}.{}", full(service))));
        }
    }
    Names { services, ports, endpoints, reverse }
}

fn reverse_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(a) => {
            let nibbles = a.octets().into_iter().rev().flat_map(|o| [o & 15, o >> 4]);
            nibbles.map(|n| format!("{n:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Names in and near a namespace that always exist, and some that never do.
pub fn around(namespace: &str) -> BTreeSet<String> {
    let structural = ["", "svc.", "pod.", &format!("{namespace}.svc."), &format!("{namespace}.pod.")];
    let missing = [
        "x.",
        "x.y.z.",
        "nowhere.svc.",
        "x.nowhere.svc.",
        "nowhere.pod.",
        "www.example.org.",
        "www.example.org.svc.",
        &format!("www.example.org.{namespace}.svc."),
        &format!("{namespace}."),
        &format!("web.{namespace}."),
        &format!("nobody.{namespace}.svc."),
        &format!("_http._tcp.nobody.{namespace}.svc."),
        &format!("x.y.z.nobody.{namespace}.svc."),
    ];
    structural.into_iter().chain(missing).map(|name| format!("{name}cluster.local")).collect()
}

/// A Service's name with the suffixes of a search list.
pub fn searched(service: &str, namespace: &str) -> Vec<String> {
    let own = format!("{namespace}.svc.cluster.local");
    let domains = [&*own, "svc.cluster.local", "cluster.local"];
    let short = service.trim_end_matches(&format!(".{own}")).to_owned();
    let typed = [short.clone(), format!("{short}.{namespace}"), service.to_owned()];
    typed.iter().flat_map(|typed| domains.iter().map(move |domain| format!("{typed}.{domain}"))).collect()
}

/// A name with random letters in upper case, as resolvers send it that check the case of replies.
pub fn random_case(name: &str) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new();
    let letter = |(i, c): (usize, char)| if random.hash_one(i) % 2 == 0 { c.to_ascii_uppercase() } else { c };
    name.chars().enumerate().map(letter).collect()
}
