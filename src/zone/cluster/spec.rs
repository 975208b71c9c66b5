//! Objects of the Kubernetes API, reduced to the fields that names depend on. Strings are as in the API.
//!
//! `source::kubernetes` makes them from watch events. They are not kept: `model` parses them into the kept form.

/// Identifies a namespaced object among those of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
}

impl Key {
    /// The object `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// `spec.externalName` of a Service whose `spec.type` is ExternalName; None for other types.
    pub external_name: Option<String>,
    /// `spec.clusterIPs`, or `spec.clusterIP` alone if that is empty. The first one of a headless Service is `None`.
    pub cluster_ips: Vec<String>,
    /// `spec.ports`
    pub ports: Vec<PortSpec>,
}

/// A port of a Service or an EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// `name`; empty if the port has none.
    pub name: String,
    /// `protocol`: TCP, UDP or SCTP.
    pub protocol: String,
    /// `port`, in host byte order; that of a slice may be absent.
    pub port: Option<u16>,
}

/// An EndpointSlice, of any address type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceSpec {
    /// The label `kubernetes.io/service-name`.
    pub service: Option<String>,
    /// `ports`
    pub ports: Vec<PortSpec>,
    /// `endpoints`
    pub endpoints: Vec<EndpointSpec>,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// `addresses`; ignored if the endpoint is not ready.
    pub addresses: Vec<String>,
    /// `hostname`
    pub hostname: Option<String>,
    /// `conditions.ready`; true if it is absent.
    pub ready: bool,
}
