//! What is kept of the API's objects: parsed, compact, comparable.

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
    /// With addresses of its own.
    ClusterIp { addresses: Box<[IpAddr]>, ports: Box<[Port]> },
    /// Its endpoints stand for it.
    Headless,
    /// ExternalName: an alias.
    External(Name),
    /// An ExternalName that is an address: the server knows no such name.
    Nothing,
    /// What we would get wrong: the server answers for it and for all below it.
    Opaque,
    /// The same for one whose ports are not kept ([`super::keep`]): its addresses, and how many items it has.
    Hidden { addresses: Box<[IpAddr]>, items: usize },
}

/// An EndpointSlice; only endpoints that are ready.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    pub endpoints: Box<[Endpoint]>,
    /// Labels of endpoints that are names of other hosts in place of addresses (slices of type FQDN).
    pub aliases: Box<[Box<str>]>,
    pub ports: Box<[Port]>,
    /// It has an endpoint that is not listed here: one with an address or a name that is none, or any where it is hidden.
    pub opaque: bool,
    /// What is known of it where nothing of it is kept.
    pub hidden: Option<Hidden>,
}

/// What is known of a slice that is not kept ([`super::keep`]).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    pub items: usize,
    /// Of its addresses.
    pub marks: Marks,
}

/// An address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Endpoint {
    pub address: IpAddr,
    /// In lower case; None: the address stands for it.
    pub hostname: Option<Box<str>>,
}

/// A port; the one of a Service or slice without ports has neither name nor protocol nor number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// In lower case.
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

    /// As in a name, without underscore.
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
    /// Whether a name asks for it. An empty name or protocol asks for all.
    pub(super) fn matches(&self, name: &str, protocol: &str) -> bool {
        (name.is_empty() || name == &*self.name) && (protocol.is_empty() || protocol == self.protocol.label())
    }
}

/// None where one of them can't be told in a name.
fn ports(specs: &[PortSpec]) -> Option<Box<[Port]>> {
    if specs.is_empty() {
        return Some([Port { name: "".into(), protocol: Protocol::None, number: None }].into());
    }
    specs
        .iter()
        .map(|p| {
            // With a dot it would be two labels.
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

/// An address in the one text form that the server, which compares texts, also has for it; an IPv4 address in IPv6
/// clothes has none.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    (address.to_canonical() == address && address.to_string() == text).then_some(address)
}

impl Service {
    pub(super) fn new(spec: &ServiceSpec) -> Self {
        if let Some(target) = &spec.external_name {
            return match Name::parse(target) {
                _ if target.parse::<IpAddr>().is_ok() => Self::Nothing,
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

    /// What of it takes memory, in items ([`super::keep`]).
    pub(super) fn items(&self) -> usize {
        match self {
            Self::ClusterIp { ports, .. } => ports.len(),
            Self::Hidden { items, .. } => *items,
            _ => 0,
        }
    }

    /// The same without that.
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

    /// What of it takes memory, in items ([`super::keep`]). A hostname takes as much again as an address.
    pub(super) fn items(&self) -> usize {
        self.hidden.as_ref().map_or_else(
            || {
                let named = self.endpoints.iter().filter(|e| e.hostname.is_some()).count();
                self.endpoints.len() + named + self.aliases.len() + self.ports.len()
            },
            |hidden| hidden.items,
        )
    }

    /// The same without that.
    pub(super) fn hide(&self, marks: Marks) -> Self {
        Self { opaque: true, hidden: Some(Hidden { items: self.items(), marks }), ..Self::default() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.aliases.is_empty()
    }

    /// The labels of its endpoints below the Service's name.
    pub(super) fn labels(&self) -> impl Iterator<Item = Box<str>> {
        self.endpoints.iter().map(Endpoint::label).chain(self.aliases.iter().cloned())
    }
}

/// Whether an endpoint's address is the name of another host.
fn is_host(text: &str) -> bool {
    text.contains('.') && text.parse::<IpAddr>().is_err() && Name::parse(text).is_ok()
}

fn is_label(text: &str) -> bool {
    Name::from_labels([text]).is_ok() && text != "*"
}

impl Endpoint {
    /// Its label below the Service's name.
    pub(super) fn label(&self) -> Box<str> {
        self.label_in(&mut String::new()).into()
    }

    /// [`Self::label`], in `text` where it has to be made. An address has dashes for its dots or colons, and a zero where the label
    /// would end in a dash.
    pub(super) fn label_in<'a>(&'a self, text: &'a mut String) -> &'a str {
        if let Some(hostname) = &self.hostname {
            return hostname;
        }
        text.clear();
        match self.address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                // A String takes all that is written.
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

/// All that is known of a Service's name.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub service: Option<Arc<Service>>,
    /// In no order.
    pub slices: Vec<Arc<Slice>>,
    /// What of both takes memory.
    pub items: usize,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }

    /// Endpoints, with the slice that lists them.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        self.slices.iter().flat_map(|s| s.endpoints.iter().map(|e| (&**s, e)))
    }

    /// Slices that are not, as they are, in another state of the same.
    pub(super) fn slices_not_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Slice> {
        // A set, since whoever may write slices may write very many for one Service.
        let others: HashSet<*const Slice> = other.slices.iter().map(Arc::as_ptr).collect();
        self.slices.iter().filter(move |s| !others.contains(&Arc::as_ptr(s))).map(|s| &**s)
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.slices.iter().any(|s| s.opaque)
    }

    /// Names in the zone whose answers this one's depend on: below `<svc>.<ns>.svc`, or with an empty name in a namespace.
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

/// The labels of a name in front of the zone's; None where it is not in the zone, or has a label that is no text.
pub(super) fn labels_in<'a>(name: &'a Name, zone: &Name) -> Option<Vec<&'a str>> {
    if !name.is_within(zone) {
        return None;
    }
    let count = name.label_count() - zone.label_count();
    name.labels().take(count).map(|l| std::str::from_utf8(l).ok()).collect()
}
