//! The three kinds of objects, reduced to what names depend on. Everything else is dropped as soon as it is read.

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::core::PartialObjectMeta;

use super::budget::OBJECT_MIN;
use super::delta::Object;
use super::health::Kind;
use crate::zone::cluster::spec::{EndpointSpec, Key, PortSpec, ServiceSpec, SliceSpec};

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that is `kube-dns` on the cluster's DNS Service, whichever server it runs.
const APP: &str = "k8s-app";
const DNS_APP: &str = "kube-dns";
const DNS_NAMESPACE: &str = "kube-system";
/// The API's default protocol of a port.
const PROTOCOL: &str = "TCP";

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceObject {
    /// Namespace and name.
    pub key: Key,
    /// The fields that its names depend on.
    pub spec: ServiceSpec,
    /// Whether it is one of the DNS Services that `DnsServers: auto` selects.
    pub is_dns: bool,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceObject {
    /// Namespace and name.
    pub key: Key,
    /// The fields that the names of its Service depend on.
    pub spec: SliceSpec,
}

/// A Namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceObject(pub Box<str>);

impl Object for ServiceObject {
    const KIND: Kind = Kind::Services;
    type Resource = Service;
    type Key = Key;

    fn from_resource(service: Service) -> Self {
        let key = key_of(&service);
        let labels = service.metadata.labels.unwrap_or_default();
        let is_dns = *key.namespace == *DNS_NAMESPACE && labels.get(APP).is_some_and(|app| app == DNS_APP);
        let spec = service.spec.unwrap_or_default();
        let is_external = spec.type_.as_deref() == Some("ExternalName");
        let ports = spec.ports.unwrap_or_default().into_iter().map(|p| PortSpec {
            name: p.name.unwrap_or_default(),
            protocol: p.protocol.unwrap_or_else(|| PROTOCOL.into()),
            port: u16::try_from(p.port).ok(),
        });
        let spec = ServiceSpec {
            external_name: spec.external_name.filter(|_| is_external),
            cluster_ips: spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect()),
            ports: collect_exact(ports),
        };
        Self { key, spec, is_dns }
    }

    fn key_of(service: &Service) -> Key {
        key_of(service)
    }

    fn key(&self) -> &Key {
        &self.key
    }

    fn namespace_of(key: &Key) -> Option<&str> {
        Some(&key.namespace)
    }

    fn size(&self) -> usize {
        OBJECT_MIN + self.spec.ports.len()
    }
}

impl Object for SliceObject {
    const KIND: Kind = Kind::EndpointSlices;
    type Resource = EndpointSlice;
    type Key = Key;

    fn from_resource(slice: EndpointSlice) -> Self {
        let key = key_of(&slice);
        let ports = slice.ports.unwrap_or_default().into_iter().map(|p| PortSpec {
            name: p.name.unwrap_or_default(),
            protocol: p.protocol.unwrap_or_else(|| PROTOCOL.into()),
            port: p.port.and_then(slice_port),
        });
        let endpoints = slice.endpoints.into_iter().map(|e| {
            let ready = e.conditions.and_then(|c| c.ready).unwrap_or(true);
            // An endpoint that is not ready has no names.
            EndpointSpec { addresses: if ready { e.addresses } else { Vec::new() }, hostname: e.hostname, ready }
        });
        let spec = SliceSpec {
            service: slice.metadata.labels.and_then(|mut l| l.remove(SERVICE_NAME)),
            ports: collect_exact(ports),
            endpoints: collect_exact(endpoints),
        };
        Self { key, spec }
    }

    fn key_of(slice: &EndpointSlice) -> Key {
        key_of(slice)
    }

    fn key(&self) -> &Key {
        &self.key
    }

    fn namespace_of(key: &Key) -> Option<&str> {
        Some(&key.namespace)
    }

    fn size(&self) -> usize {
        let addresses: usize = self.spec.endpoints.iter().map(|e| 1 + e.addresses.len()).sum();
        OBJECT_MIN + addresses + self.spec.ports.len()
    }
}

impl Object for NamespaceObject {
    const KIND: Kind = Kind::Namespaces;
    type Resource = PartialObjectMeta<Namespace>;
    type Key = Box<str>;

    fn from_resource(namespace: Self::Resource) -> Self {
        Self(namespace.metadata.name.unwrap_or_default().into())
    }

    fn key_of(namespace: &Self::Resource) -> Box<str> {
        namespace.metadata.name.as_deref().unwrap_or_default().into()
    }

    fn key(&self) -> &Box<str> {
        &self.0
    }

    fn namespace_of(_: &Box<str>) -> Option<&str> {
        None
    }

    fn size(&self) -> usize {
        OBJECT_MIN
    }
}

fn key_of(resource: &impl Resource) -> Key {
    let meta = resource.meta();
    Key::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Collects into a new allocation of the exact size. `collect` would reuse the memory of the API's objects, which are several
/// times as large.
fn collect_exact<T>(items: impl ExactSizeIterator<Item = T>) -> Vec<T> {
    let mut exact = Vec::with_capacity(items.len());
    exact.extend(items);
    exact
}

/// The number of a slice's port in SRV records. The API accepts any 32 bits; CoreDNS sends the lower 16, and uses -1 for a port
/// without a number.
const fn slice_port(port: i32) -> Option<u16> {
    if port == -1 { None } else { Some(port as u16) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_api_object_is_not_kept() {
        let endpoint =
            || k8s_openapi::api::discovery::v1::Endpoint { addresses: vec!["10.0.0.1".into()], ..Default::default() };
        let slice = EndpointSlice { endpoints: (0..100).map(|_| endpoint()).collect(), ..Default::default() };
        let endpoints = SliceObject::from_resource(slice).spec.endpoints;
        assert_eq!((endpoints.len(), endpoints.capacity()), (100, 100));
    }

    #[test]
    fn ports_outside_of_16_bits_are_truncated_as_coredns_does() {
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
