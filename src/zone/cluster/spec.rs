//! What the Kubernetes API says, as far as names depend on it. Strings are as the API has them.

/// Which Service, EndpointSlice or other namespaced object.
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
    /// `spec.clusterIPs`, or else `spec.clusterIP` alone. The first one of a headless Service is `None`.
    pub cluster_ips: Vec<String>,
    /// `spec.ports`
    pub ports: Vec<PortSpec>,
}

/// A port of a Service or an EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// `name`; empty where there is none.
    pub name: String,
    /// `protocol`: TCP, UDP or SCTP.
    pub protocol: String,
    /// `port`; a slice's may have none.
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
    /// `addresses`; of no use where it is not ready.
    pub addresses: Vec<String>,
    /// `hostname`
    pub hostname: Option<String>,
    /// `conditions.ready`, true where it is absent.
    pub ready: bool,
}
