//! The cluster's zone compared with CoreDNS. [`coredns`] is the logic of its kubernetes plugin, applied to the API's objects
//! directly. [`kernel`] has the replies that the program gives from the nodes.

mod coredns;
mod full;
mod keep;
mod kernel;
mod order;
mod pass;
mod scale;
mod table;
mod turns;

pub(super) use self::order::Random;
use super::spec::{EndpointSpec, Key, PortSpec, ServiceSpec, SliceSpec};
use super::*;

const ZONE: &str = "cluster.local";
const SERIAL: u32 = 7;

/// Lists that arrive at once.
impl Cluster {
    fn replace_namespaces(&mut self, names: impl IntoIterator<Item = impl AsRef<str>>) {
        self.begin_namespaces();
        self.list_namespaces(names);
        self.end_namespaces();
    }

    fn replace_services(&mut self, services: impl IntoIterator<Item = (Key, ServiceSpec)>) {
        self.begin_services();
        self.list_services(services);
        self.end_services();
    }

    fn replace_slices(&mut self, slices: impl IntoIterator<Item = (Key, SliceSpec)>) {
        self.begin_slices();
        self.list_slices(slices);
        self.end_slices();
    }
}

fn config() -> ClusterConfig {
    ClusterConfig {
        zone: Name::parse(ZONE).unwrap(),
        ttl: 30,
        negative_answers: true,
        serial: SERIAL,
        pass: PassNames::default(),
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

/// Ports from texts `name/PROTO/number`. The name may be empty; `-` is a port without number.
fn ports(texts: &[&str]) -> Vec<PortSpec> {
    let port = |text: &&str| {
        let [name, protocol, port] = text.split('/').collect::<Vec<_>>()[..] else { panic!("{text}") };
        PortSpec { name: name.into(), protocol: protocol.into(), port: port.parse().ok() }
    };
    texts.iter().map(port).collect()
}

fn cluster_ip(addresses: &[&str], port_texts: &[&str]) -> ServiceSpec {
    ServiceSpec { external_name: None, cluster_ips: strings(addresses), ports: ports(port_texts) }
}

fn headless() -> ServiceSpec {
    cluster_ip(&["None"], &[])
}

fn external(target: &str) -> ServiceSpec {
    ServiceSpec { external_name: Some(target.into()), ..ServiceSpec::default() }
}

/// A slice of `service`. An endpoint is `address`, `address=hostname` or, if it is not ready, `!address`.
fn slice(service: &str, port_texts: &[&str], endpoints: &[&str]) -> SliceSpec {
    let endpoint = |text: &&str| {
        let (ready, text) = text.strip_prefix('!').map_or((true, *text), |t| (false, t));
        let (address, hostname) = text.split_once('=').map_or((text, None), |(a, h)| (a, Some(h.to_owned())));
        EndpointSpec { addresses: vec![address.into()], hostname, ready }
    };
    let service = (!service.is_empty()).then(|| service.to_owned());
    SliceSpec { service, ports: ports(port_texts), endpoints: endpoints.iter().map(endpoint).collect() }
}
