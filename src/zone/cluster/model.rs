//! The objects of the API in the form in which they are kept: parsed, compact, comparable.
//!
//! # Data model
//!
//! `Cluster` keeps an [`Entry`] for each name of a Service that the API uses: the [`Service`] of that name, if it exists, and
//! all [`Slice`]s that refer to it. A slice lists [`Endpoint`]s and [`Port`]s. Everything is immutable and shared by `Arc`, so
//! that a commit can compare an entry with a copy from before the change.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use super::marks::Marks;
use super::spec::{Key, PortSpec, ServiceSpec, SliceSpec};
use crate::zone::name::Name;

/// A Service.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// It has cluster IPs.
    ClusterIp { addresses: Box<[IpAddr]>, ports: Box<[Port]> },
    /// Headless: its addresses are those of its endpoints.
    Headless,
    /// ExternalName: an alias of this name.
    External(Name),
    /// An ExternalName that is an IP address: CoreDNS answers NXDOMAIN.
    ExternalAddress,
    /// Not representable, for instance because of a port's name: its name and all names below it pass.
    Opaque,
    /// A Service whose ports are not kept ([`super::keep`]), so that its name and all names below it pass. Its cluster IPs and
    /// the number of its items are kept.
    Hidden { addresses: Box<[IpAddr]>, items: usize },
}

/// An EndpointSlice, with only those endpoints that are ready.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    pub endpoints: Box<[Endpoint]>,
    /// Labels of endpoints that have a host name in place of an address (slices of type FQDN).
    pub aliases: Box<[Box<str>]>,
    pub ports: Box<[Port]>,
    /// Whether it has endpoints that are not listed here: because an address or a host name is not valid, or because the slice
    /// is hidden.
    pub opaque: bool,
    /// Set if the slice is hidden: its endpoints and ports are not kept.
    pub hidden: Option<Hidden>,
}

/// A slice whose endpoints and ports are not kept ([`super::keep`]).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    /// The number of its items.
    pub items: usize,
    /// The marks of its addresses.
    pub marks: Marks,
}

/// An address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Endpoint {
    pub address: IpAddr,
    /// The first label of its name, in lower case; None: the label is derived from the address.
    pub hostname: Option<Box<str>>,
}

/// A port. A Service or slice without ports has one port without name, protocol and number, as in CoreDNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// The name in lower case; empty if the port has none.
    pub name: Box<str>,
    pub protocol: Protocol,
    pub number: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    None,
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The protocol's label in a name, without the underscore.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Port {
    /// Whether a query for this name and protocol matches. An empty name or protocol matches all.
    pub(super) fn matches(&self, name: &str, protocol: &str) -> bool {
        (name.is_empty() || name == &*self.name) && (protocol.is_empty() || protocol == self.protocol.label())
    }
}

/// Parses ports. None if a name or a protocol can't be a label.
fn ports(specs: &[PortSpec]) -> Option<Box<[Port]>> {
    if specs.is_empty() {
        return Some([Port { name: "".into(), protocol: Protocol::None, number: None }].into());
    }
    specs
        .iter()
        .map(|p| {
            // A name with a dot would be two labels.
            if !p.name.is_empty() && !is_label(&p.name) {
                return None;
            }
            Some(Port {
                name: p.name.to_ascii_lowercase().into(),
                protocol: Protocol::parse(&p.protocol)?,
                number: p.port,
            })
        })
        .collect()
}

/// Parses an address that is in canonical text form, since CoreDNS compares texts. None for other forms, and for IPv4-mapped
/// IPv6 addresses.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    (address.to_canonical() == address && address.to_string() == text).then_some(address)
}

impl Service {
    pub(super) fn new(spec: &ServiceSpec) -> Self {
        if let Some(target) = &spec.external_name {
            return match Name::parse(target) {
                _ if target.parse::<IpAddr>().is_ok() => Self::ExternalAddress,
                Ok(name) if !target.contains('*') && name.label_count() > 0 => Self::External(name),
                _ => Self::Opaque,
            };
        }
        if spec.cluster_ips.first().is_some_and(|ip| ip == "None") {
            return Self::Headless;
        }
        let addresses: Option<Box<[IpAddr]>> = spec.cluster_ips.iter().map(|ip| address(ip)).collect();
        match (addresses, ports(&spec.ports)) {
            (Some(addresses), Some(ports)) if !addresses.is_empty() => Self::ClusterIp { addresses, ports },
            _ => Self::Opaque,
        }
    }

    /// The number of items that it takes in memory ([`super::keep`]).
    pub(super) fn items(&self) -> usize {
        match self {
            Self::ClusterIp { ports, .. } => ports.len(),
            Self::Hidden { items, .. } => *items,
            _ => 0,
        }
    }

    /// The Service without its ports. None if it has no ports that could be hidden.
    pub(super) fn hide(&self) -> Option<Self> {
        let Self::ClusterIp { addresses, .. } = self else { return None };
        Some(Self::Hidden { addresses: addresses.clone(), items: self.items() })
    }
}

impl Slice {
    pub(super) fn new(spec: &SliceSpec) -> Self {
        let ready = || spec.endpoints.iter().filter(|e| e.ready);
        let Some(ports) = ports(&spec.ports) else {
            let opaque = ready().next().is_some();
            return Self { opaque, ..Self::default() };
        };
        let mut endpoints = Vec::with_capacity(ready().map(|e| e.addresses.len()).sum());
        let mut aliases = Vec::new();
        let mut opaque = false;
        for endpoint in ready() {
            let hostname = endpoint.hostname.as_deref().filter(|h| !h.is_empty());
            for text in &endpoint.addresses {
                match address(text) {
                    Some(address) if hostname.is_none_or(is_label) => {
                        let hostname = hostname.map(|h| h.to_ascii_lowercase().into());
                        endpoints.push(Endpoint { address, hostname });
                    }
                    None if is_host(text) => {
                        let label = hostname.map_or_else(|| text.replace('.', "-"), str::to_ascii_lowercase);
                        opaque |= !is_label(&label);
                        aliases.push(label.into());
                    }
                    _ => opaque = true,
                }
            }
        }
        Self { endpoints: endpoints.into(), aliases: aliases.into(), ports, opaque, hidden: None }
    }

    /// The number of items that it takes in memory ([`super::keep`]). An endpoint with a hostname takes two.
    pub(super) fn items(&self) -> usize {
        self.hidden.as_ref().map_or_else(
            || {
                let named = self.endpoints.iter().filter(|e| e.hostname.is_some()).count();
                self.endpoints.len() + named + self.aliases.len() + self.ports.len()
            },
            |hidden| hidden.items,
        )
    }

    /// The slice without its endpoints and ports.
    pub(super) fn hide(&self, marks: Marks) -> Self {
        Self { opaque: true, hidden: Some(Hidden { items: self.items(), marks }), ..Self::default() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.aliases.is_empty()
    }

    /// The labels of its endpoints, one label below the Service's name.
    pub(super) fn labels(&self) -> impl Iterator<Item = Box<str>> {
        self.endpoints.iter().map(Endpoint::label).chain(self.aliases.iter().cloned())
    }
}

/// Whether an endpoint's address is a host name.
fn is_host(text: &str) -> bool {
    text.contains('.') && text.parse::<IpAddr>().is_err() && Name::parse(text).is_ok()
}

fn is_label(text: &str) -> bool {
    Name::from_labels([text]).is_ok() && text != "*"
}

impl Endpoint {
    /// The endpoint's label, one label below the Service's name.
    pub(super) fn label(&self) -> Box<str> {
        self.label_in(&mut String::new()).into()
    }

    /// Like [`Self::label`], but writes the label to `text` unless it is the hostname. The label of an address has dashes for
    /// its dots or colons; a final dash is followed by 0.
    pub(super) fn label_in<'a>(&'a self, text: &'a mut String) -> &'a str {
        if let Some(hostname) = &self.hostname {
            return hostname;
        }
        text.clear();
        match self.address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                // Writing to a String can't fail.
                let _ = write!(text, "{a}-{b}-{c}-{d}");
            }
            IpAddr::V6(address) => {
                text.push_str(&address.to_string().replace([':', '.'], "-"));
                if text.ends_with('-') {
                    text.push('0');
                }
            }
        }
        text
    }
}

/// The objects of one name of a Service: the Service, and the slices that refer to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub service: Option<Arc<Service>>,
    /// The slices that refer to the Service, in no order.
    pub slices: Vec<Arc<Slice>>,
    /// The number of items that Service and slices take in memory.
    pub items: usize,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }

    /// All endpoints, each with its slice.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        self.slices.iter().flat_map(|s| s.endpoints.iter().map(|e| (&**s, e)))
    }

    /// The slices that differ from those of `other`, another state of the same entry, or are missing there.
    pub(super) fn slices_not_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Slice> {
        // A set: a tenant may create many thousands of slices for one Service.
        let others: HashSet<*const Slice> = other.slices.iter().map(Arc::as_ptr).collect();
        self.slices.iter().filter(move |s| !others.contains(&Arc::as_ptr(s))).map(|s| &**s)
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.slices.iter().any(|s| s.opaque)
    }

    /// The Service that an ExternalName's answers depend on: `<svc>` in `<ns>` if the target is `<svc>.<ns>.svc` or below it.
    /// If the target is the name of a pod, the answers depend only on the pod's namespace, and the name in the key is empty.
    pub(super) fn depends_on(&self, zone: &Name) -> Option<Key> {
        let Some(Service::External(target)) = self.service.as_deref() else { return None };
        let labels = labels_in(target, zone)?;
        match labels[..] {
            [.., service, namespace, "svc"] => Some(Key::new(namespace, service)),
            [.., _, namespace, "pod"] => Some(Key::new(namespace, "")),
            _ => None,
        }
    }
}

/// The labels of a name in front of those of the zone. None if the name is not in the zone or a label is not UTF-8.
pub(super) fn labels_in<'a>(name: &'a Name, zone: &Name) -> Option<Vec<&'a str>> {
    if !name.is_within(zone) {
        return None;
    }
    let count = name.label_count() - zone.label_count();
    name.labels().take(count).map(|l| std::str::from_utf8(l).ok()).collect()
}
