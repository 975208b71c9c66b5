//! The API's objects to what names depend on; all else is dropped as soon as it is read.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::core::PartialObjectMeta;

use crate::zone::cluster::spec::{EndpointSpec, Key, PortSpec, ServiceSpec, SliceSpec};

/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Has the value `kube-dns` on the cluster's DNS service, whatever server it is.
const APP: &str = "k8s-app";
const DNS_APP: &str = "kube-dns";
const DNS_NAMESPACE: &str = "kube-system";
/// Where an API object states no protocol.
const PROTOCOL: &str = "TCP";

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceObject {
    /// Which one.
    pub key: Key,
    /// What its names depend on.
    pub spec: ServiceSpec,
    /// Whether it is what `DnsServers: auto` stands for.
    pub is_dns: bool,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceObject {
    /// Which one.
    pub key: Key,
    /// What names depend on.
    pub spec: SliceSpec,
}

pub(super) fn key<O: Resource>(object: &O) -> Key {
    let meta = object.meta();
    Key::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Of what there are so many. Collected they would keep the memory of the API's objects, which are several times as large.
fn exactly<T>(items: impl ExactSizeIterator<Item = T>) -> Vec<T> {
    let mut exact = Vec::with_capacity(items.len());
    exact.extend(items);
    exact
}

pub(super) fn service(object: Service) -> ServiceObject {
    let key = key(&object);
    let labels = object.metadata.labels.unwrap_or_default();
    let is_dns = *key.namespace == *DNS_NAMESPACE && labels.get(APP).is_some_and(|app| app == DNS_APP);
    let spec = object.spec.unwrap_or_default();
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let ports = spec.ports.unwrap_or_default().into_iter().map(|p| PortSpec {
        name: p.name.unwrap_or_default(),
        protocol: p.protocol.unwrap_or_else(|| PROTOCOL.into()),
        port: u16::try_from(p.port).ok(),
    });
    let spec = ServiceSpec {
        external_name: spec.external_name.filter(|_| is_external),
        cluster_ips: spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect()),
        ports: exactly(ports),
    };
    ServiceObject { key, spec, is_dns }
}

/// The number of a slice's port in SRV records. The API takes any 32 bits; the server sends the lower 16 of them, and -1 is
/// what it has for a port without a number.
const fn slice_port(port: i32) -> Option<u16> {
    if port == -1 { None } else { Some(port as u16) }
}

pub(super) fn slice(object: EndpointSlice) -> SliceObject {
    let key = key(&object);
    let ports = object.ports.unwrap_or_default().into_iter().map(|p| PortSpec {
        name: p.name.unwrap_or_default(),
        protocol: p.protocol.unwrap_or_else(|| PROTOCOL.into()),
        port: p.port.and_then(slice_port),
    });
    let endpoints = object.endpoints.into_iter().map(|e| {
        let ready = e.conditions.and_then(|c| c.ready).unwrap_or(true);
        // One that is not ready has no names.
        EndpointSpec { addresses: if ready { e.addresses } else { Vec::new() }, hostname: e.hostname, ready }
    });
    let spec = SliceSpec {
        service: object.metadata.labels.and_then(|mut l| l.remove(SERVICE_NAME)),
        ports: exactly(ports),
        endpoints: exactly(endpoints),
    };
    SliceObject { key, spec }
}

pub(super) fn namespace<N>(object: PartialObjectMeta<N>) -> Box<str> {
    object.metadata.name.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_what_is_dropped() {
        let endpoint =
            || k8s_openapi::api::discovery::v1::Endpoint { addresses: vec!["10.0.0.1".into()], ..Default::default() };
        let object = EndpointSlice { endpoints: (0..100).map(|_| endpoint()).collect(), ..Default::default() };
        let endpoints = slice(object).spec.endpoints;
        assert_eq!((endpoints.len(), endpoints.capacity()), (100, 100));
    }

    #[test]
    fn ports_outside_of_16_bits_are_what_the_server_makes_of_them() {
        for (port, number) in [
            (0, Some(0)),
            (80, Some(80)),
            (65_535, Some(65_535)),
            (65_536, Some(0)),
            (70_000, Some(4464)),
            (i32::MAX, Some(65_535)),
            (-1, None),
            (-5, Some(65_531)),
            (i32::MIN, Some(0)),
        ] {
            assert_eq!(slice_port(port), number, "{port}");
        }
    }
}
