//! A network interface, from its RTM_NEWLINK message.

use std::collections::BTreeMap;

use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};

use super::uplinks::{Device, Uplink};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the interface.
    pub ifindex: u32,
    /// The current name.
    pub name: String,
    /// The link-layer header of its packets.
    pub header: Header,
    /// Whether it is one end of a pair (veth, netkit) whose other end is in another network namespace.
    pub is_peer_elsewhere: bool,
    /// Whether a default route of the main table uses it or may use it. Such an interface is not taken for a client's port.
    pub uplink: Uplink,
    /// Whether it is a tap device: a virtual machine's port, or a VPN's.
    pub is_tap: bool,
    /// The MAC address of its controller (IFLA_MASTER), usually a bridge.
    pub controller: Option<[u8; 6]>,
    /// Whether its kind (network card, VLAN, bond, team or macvlan) leads off the node.
    pub is_external: bool,
}

impl Link {
    /// Whether it certainly is a pod's: its peer is in another network namespace, and it is no uplink, not even possibly.
    #[must_use]
    pub const fn is_pods(&self) -> bool {
        self.is_peer_elsewhere && matches!(self.uplink, Uplink::No)
    }

    /// The frames that eDNS may answer on its ingress.
    #[must_use]
    pub fn accepts(&self) -> Accepts {
        if self.is_pods() || self.is_tap && self.uplink == Uplink::No {
            return Accepts::Any;
        }
        self.controller.map_or(Accepts::Own, Accepts::OwnAnd)
    }
}

/// The frames that eDNS answers, by destination MAC address. A switch also floods frames for other hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// Frames to the interface's own address (`skb->pkt_type`).
    Own,
    /// Frames to the interface's own address or to this one.
    OwnAnd([u8; 6]),
    /// All frames: the interface is the port of one client.
    Any,
}

/// The link-layer header of packets at an interface's tc hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Ethernet, 14 octets.
    Ethernet,
    /// None: the IP header comes first.
    None,
    /// A header that eDNS can't parse.
    Other,
}

/// Link messages by ifindex.
pub(super) type Messages = BTreeMap<u32, LinkMessage>;

/// All interfaces, with the uplink not yet computed ([`Uplink::No`]).
pub(super) fn all(messages: &Messages) -> Vec<Link> {
    messages.values().filter_map(|m| link(m, messages)).collect()
}

pub(super) fn device(message: &LinkMessage) -> Device {
    let mut device = Device::default();
    for attribute in &message.attributes {
        match attribute {
            // Present only if the peer is in another network namespace (rtnl_fill_link_netnsid() in the kernel).
            LinkAttribute::LinkNetNsId(_) => device.is_lower_elsewhere = true,
            LinkAttribute::Link(lower) => device.lower = Some(*lower),
            LinkAttribute::Controller(c) => device.controller = Some(*c),
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|i| if let LinkInfo::Kind(k) = i { Some(k.clone()) } else { None });
            }
            _ => {}
        }
    }
    let has_external_kind =
        matches!(device.kind, None | Some(InfoKind::Vlan | InfoKind::Bond | InfoKind::Team | InfoKind::MacVlan));
    device.is_external = has_external_kind && message.header.link_layer_type != LinkLayerType::Loopback;
    device
}

fn link(message: &LinkMessage, all: &Messages) -> Option<Link> {
    let Device { kind, is_lower_elsewhere, controller, is_external, .. } = device(message);
    let name = message.attributes.iter().find_map(|a| if let LinkAttribute::IfName(n) = a { Some(n) } else { None });
    let layer = message.header.link_layer_type;
    Some(Link {
        ifindex: message.header.index,
        name: name?.clone(),
        header: match layer {
            LinkLayerType::Ether | LinkLayerType::Loopback => Header::Ethernet,
            LinkLayerType::None | LinkLayerType::Rawip | LinkLayerType::Ppp => Header::None,
            LinkLayerType::Tunnel | LinkLayerType::Tunnel6 | LinkLayerType::Sit => Header::None,
            _ => Header::Other,
        },
        uplink: Uplink::No,
        is_tap: matches!(kind, Some(InfoKind::Tun)) && layer == LinkLayerType::Ether,
        controller: controller.and_then(|c| mac(all.get(&c)?)),
        is_peer_elsewhere: is_lower_elsewhere && matches!(kind, Some(InfoKind::Veth | InfoKind::Netkit)),
        is_external,
    })
}

fn mac(message: &LinkMessage) -> Option<[u8; 6]> {
    message
        .attributes
        .iter()
        .find_map(|a| if let LinkAttribute::Address(mac) = a { mac.as_slice().try_into().ok() } else { None })
}
