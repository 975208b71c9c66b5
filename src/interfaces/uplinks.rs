//! The node's uplinks: the interfaces of default routes, and the interfaces below them.
//!
//! The interfaces below are: a VLAN's or macvlan's parent, a bond's members, and for a veth with its peer in this namespace the
//! bridge of that peer.
//!
//! **A bridge with the default route** may have both the uplink and clients as its ports. A network card, VLAN, bond or macvlan
//! among the ports is the uplink, as is a port with its own default route, or the only port; other ports are clients'. If all
//! ports are veths or taps, as on a node that is a container, each may be the uplink. Then `@pods` matches each, and eDNS answers
//! frames to its own address or the bridge's, but not frames for others, which a pod may have sent or a switch flooded.

use std::collections::{BTreeMap, BTreeSet};

use rtnetlink::packet_route::link::InfoKind;

/// Whether an interface leads out of the node, so that it is no client's port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Uplink {
    /// No default route uses it.
    #[default]
    No,
    /// It is a port of a bridge with a default route, and any of these ports may be the uplink.
    Perhaps,
    /// A default route of the main table uses it.
    Yes,
}

/// The properties of an interface that decide whether it is an uplink.
#[derive(Debug, Clone, Default)]
pub(super) struct Device {
    pub kind: Option<InfoKind>,
    /// The interface below, or the peer of a pair (IFLA_LINK; ifindex).
    pub lower: Option<u32>,
    /// Whether `lower` is in another network namespace.
    pub is_lower_elsewhere: bool,
    /// The controller that it is a port of (IFLA_MASTER; ifindex).
    pub controller: Option<u32>,
    /// Whether its kind (network card, VLAN, bond, team or macvlan) leads off the node.
    pub is_external: bool,
}

/// Finds the uplinks: the interfaces of default routes, then the interfaces below them.
pub(super) fn uplinks(routes: &BTreeSet<u32>, devices: &BTreeMap<u32, Device>) -> BTreeMap<u32, Uplink> {
    let mut found = BTreeMap::new();
    // Interfaces to visit, each with the port that led to it.
    let mut todo: Vec<(u32, Option<u32>, Uplink)> = routes.iter().map(|i| (*i, None, Uplink::Yes)).collect();
    while let Some((index, from, uplink)) = todo.pop() {
        if found.get(&index).is_some_and(|known| *known >= uplink) {
            continue;
        }
        found.insert(index, uplink);
        let Some(device) = devices.get(&index) else { continue };
        let is_pair = matches!(device.kind, Some(InfoKind::Veth | InfoKind::Netkit));
        let lower = device.lower.filter(|_| !device.is_lower_elsewhere);
        match lower.and_then(|lower| Some((lower, devices.get(&lower)?))) {
            Some((peer, Device { controller: Some(bridge), .. })) if is_pair => {
                todo.push((*bridge, Some(peer), uplink))
            }
            Some((lower, _)) if !is_pair => todo.push((lower, None, uplink)),
            _ => {}
        }
        let ports = devices.iter().filter(|(port, d)| d.controller == Some(index) && Some(**port) != from);
        let ports: Vec<u32> = ports.map(|(port, _)| *port).collect();
        let has_clients = matches!(device.kind, Some(InfoKind::Bridge | InfoKind::Vrf));
        let is_certain = |port: &u32| routes.contains(port) || devices[port].is_external;
        let certain: Vec<u32> = ports.iter().copied().filter(is_certain).collect();
        let (ports, uplink) = match certain.is_empty() {
            _ if !has_clients || ports.len() == 1 => (ports, uplink),
            true => (ports, Uplink::Perhaps),
            false => (certain, uplink),
        };
        todo.extend(ports.into_iter().map(|port| (port, None, uplink)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device; 0 means no lower interface or no controller.
    fn device(kind: Option<InfoKind>, lower: u32, controller: u32) -> Device {
        let is_external = matches!(kind, None | Some(InfoKind::Vlan | InfoKind::Bond));
        let some = |n| Some(n).filter(|n| *n > 0);
        Device { kind, lower: some(lower), is_lower_elsewhere: false, controller: some(controller), is_external }
    }

    /// A veth whose peer is in another network namespace. The peer's ifindex also exists in this one.
    fn veth(controller: u32) -> Device {
        Device { is_lower_elsewhere: true, ..device(Some(InfoKind::Veth), 1, controller) }
    }

    fn bridge() -> Device {
        device(Some(InfoKind::Bridge), 0, 0)
    }

    /// A description, the interface of the route, all devices; then the certain uplinks and the possible ones.
    type Case = (&'static str, u32, Vec<Device>, &'static [u32], &'static [u32]);

    #[test]
    fn uplinks_are_found_below_the_interface_of_a_default_route() {
        let (vlan, bond, tap) = (Some(InfoKind::Vlan), Some(InfoKind::Bond), Some(InfoKind::Tun));
        let on = |kind, lower| device(kind, lower, 0);
        // Interfaces are numbered from 1.
        let cases: [Case; 14] = [
            ("its interface", 1, vec![veth(0), veth(0)], &[1], &[]),
            ("no route", 0, vec![veth(0), veth(0)], &[], &[]),
            ("an interface that no longer exists", 5, vec![veth(0)], &[5], &[]),
            ("a VLAN on it", 2, vec![veth(0), on(vlan.clone(), 1), veth(0)], &[1, 2], &[]),
            (
                "a macvlan on a VLAN",
                3,
                vec![veth(0), on(vlan.clone(), 1), on(Some(InfoKind::MacVlan), 2)],
                &[1, 2, 3],
                &[],
            ),
            ("a bond", 3, vec![veth(3), veth(3), device(bond.clone(), 0, 0), veth(0)], &[1, 2, 3], &[]),
            (
                "a bridge, with a card",
                1,
                vec![bridge(), device(None, 0, 1), veth(1), device(tap.clone(), 0, 1)],
                &[1, 2],
                &[],
            ),
            (
                "a bridge, with a VLAN",
                1,
                vec![bridge(), device(vlan.clone(), 3, 1), veth(0), veth(1), veth(1)],
                &[1, 2, 3],
                &[],
            ),
            ("a bridge, with a bond", 1, vec![bridge(), device(bond, 0, 1), veth(2), veth(1)], &[1, 2, 3], &[]),
            ("a bridge with one port", 1, vec![bridge(), veth(1), veth(0)], &[1, 2], &[]),
            (
                "a bridge of veths and a tap",
                1,
                vec![bridge(), veth(1), veth(1), device(tap, 0, 1), veth(0)],
                &[1],
                &[2, 3, 4],
            ),
            ("a VLAN on a bridge", 4, vec![bridge(), veth(1), veth(1), on(vlan, 1)], &[1, 4], &[2, 3]),
            (
                "a pair, on a bridge",
                4,
                vec![bridge(), veth(1), device(Some(InfoKind::Veth), 4, 1), device(Some(InfoKind::Veth), 3, 0)],
                &[1, 2, 4],
                &[],
            ),
            ("a bridge without ports", 1, vec![bridge(), veth(0)], &[1], &[]),
        ];
        for (what, route, devices, certain, uncertain) in cases {
            let routes = BTreeSet::from_iter([route].into_iter().filter(|r| *r > 0));
            let devices = (1..).zip(devices).collect();
            let of = |numbers: &[u32], uplink| numbers.iter().map(|n| (*n, uplink)).collect::<Vec<_>>();
            let wanted = [of(certain, Uplink::Yes), of(uncertain, Uplink::Perhaps)].concat();
            assert_eq!(uplinks(&routes, &devices), BTreeMap::from_iter(wanted), "{what}");
        }
    }

    #[test]
    fn a_port_with_its_own_default_route_is_the_uplink() {
        let devices = (1..).zip([bridge(), veth(1), veth(1), veth(1)]).collect();
        let found = uplinks(&BTreeSet::from([1, 2]), &devices);
        assert_eq!(found, BTreeMap::from([(1, Uplink::Yes), (2, Uplink::Yes)]));
    }
}
