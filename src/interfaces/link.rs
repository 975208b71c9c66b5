//! An interface, as netlink describes it.

use std::collections::BTreeMap;

use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};

use super::uplinks::{Device, Uplink};

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// As the kernel numbers them.
    pub ifindex: u32,
    /// As it is called now.
    pub name: String,
    /// What its packets begin with.
    pub header: Header,
    /// Whether it is one end of a pair (veth, netkit) whose other end is in another network namespace.
    pub peer_elsewhere: bool,
    /// Whether a default route of the main table goes by it: nobody's client port, whatever its kind.
    pub uplink: Uplink,
    /// Whether it is a tap device: a virtual machine's port, or a VPN's.
    pub tap: bool,
    /// The MAC address of what it is enslaved to, a bridge mostly.
    pub controller: Option<[u8; 6]>,
    /// Whether others than this host's containers may send by it.
    pub outside: bool,
}

impl Link {
    /// Whether it is a pod's for certain.
    #[must_use]
    pub const fn is_pods(&self) -> bool {
        self.peer_elsewhere && matches!(self.uplink, Uplink::No)
    }

    /// Frames that may be answered on ingress.
    #[must_use]
    pub fn accepts(&self) -> Accepts {
        if self.is_pods() || self.tap && self.uplink == Uplink::No {
            return Accepts::Any;
        }
        self.controller.map_or(Accepts::Own, Accepts::OwnAnd)
    }
}

/// Frames by their destination: a switch floods an interface with such as are for others, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// To the interface's own address, by what the kernel says.
    Own,
    /// To this one, too.
    OwnAnd([u8; 6]),
    /// To any: the port of one client.
    Any,
}

/// What a packet begins with at an interface's hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Of 14 octets.
    Ethernet,
    /// None: the IP header comes first.
    None,
    /// One that we don't know.
    Other,
}

/// What there is, by number.
pub(super) type Messages = BTreeMap<u32, LinkMessage>;

/// All interfaces, whatever routes say.
pub(super) fn all(messages: &Messages) -> Vec<Link> {
    messages.values().filter_map(|m| link(m, messages)).collect()
}

pub(super) fn device(message: &LinkMessage) -> Device {
    let mut device = Device::default();
    for attribute in &message.attributes {
        match attribute {
            // Only where that is in another network namespace (rtnl_fill_link_netnsid() in the kernel).
            LinkAttribute::LinkNetNsId(_) => device.elsewhere = true,
            LinkAttribute::Link(lower) => device.lower = Some(*lower),
            LinkAttribute::Controller(c) => device.controller = Some(*c),
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|i| if let LinkInfo::Kind(k) = i { Some(k.clone()) } else { None });
            }
            _ => {}
        }
    }
    let kinds =
        matches!(device.kind, None | Some(InfoKind::Vlan | InfoKind::Bond | InfoKind::Team | InfoKind::MacVlan));
    device.outside = kinds && message.header.link_layer_type != LinkLayerType::Loopback;
    device
}

fn link(message: &LinkMessage, all: &Messages) -> Option<Link> {
    let Device { kind, elsewhere, controller, outside, .. } = device(message);
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
        tap: matches!(kind, Some(InfoKind::Tun)) && layer == LinkLayerType::Ether,
        controller: controller.and_then(|c| mac(all.get(&c)?)),
        peer_elsewhere: elsewhere && matches!(kind, Some(InfoKind::Veth | InfoKind::Netkit)),
        outside,
    })
}

fn mac(message: &LinkMessage) -> Option<[u8; 6]> {
    message
        .attributes
        .iter()
        .find_map(|a| if let LinkAttribute::Address(mac) = a { mac.as_slice().try_into().ok() } else { None })
}
