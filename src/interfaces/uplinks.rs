//! What the node itself reaches the network by: the interface that a default route uses, and what is below that.
//!
//! Below a VLAN or macvlan is the interface that it is on, below a bond are those that it joins, and behind a pair of veths of
//! this namespace is the bridge that the other end is a port of.
//!
//! **A bridge with the default route** may have uplink and clients as its ports, and nothing says which is which where both
//! are veths whose peers are elsewhere: the eth0 of a node that is a container, and pods'. A port that is no client's by its
//! kind (a network card, VLAN, bond or macvlan) is the uplink, and all others are clients'. So it is with one that a default
//! route uses itself, and one that is alone. Where none of that tells, each port may be the uplink, and gets what both may
//! have: it is a pod's for `@pods`, and frames are answered that were sent to its own address or the bridge's, but not those for
//! others, which a pod may have sent or a switch flooded.

use std::collections::{BTreeMap, BTreeSet};

use rtnetlink::packet_route::link::InfoKind;

/// Whether an interface leads out of the node: nobody's client port, whatever its kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Uplink {
    /// It does not.
    #[default]
    No,
    /// It may: a port of a bridge with a default route, and the uplink is one of them.
    Perhaps,
    /// A default route of the main table goes by it.
    Yes,
}

/// What matters of an interface.
#[derive(Debug, Clone, Default)]
pub(super) struct Device {
    pub kind: Option<InfoKind>,
    /// The interface below, or a pair's other end.
    pub lower: Option<u32>,
    /// Whether that is in another network namespace.
    pub elsewhere: bool,
    /// What it is enslaved to.
    pub controller: Option<u32>,
    /// Whether it is no client's port by its kind.
    pub outside: bool,
}

/// Interfaces that lead out, by what default routes use.
pub(super) fn uplinks(routes: &BTreeSet<u32>, devices: &BTreeMap<u32, Device>) -> BTreeMap<u32, Uplink> {
    let mut found = BTreeMap::new();
    // With where one came from.
    let mut todo: Vec<(u32, Option<u32>, Uplink)> = routes.iter().map(|i| (*i, None, Uplink::Yes)).collect();
    while let Some((index, from, uplink)) = todo.pop() {
        if found.get(&index).is_some_and(|known| *known >= uplink) {
            continue;
        }
        found.insert(index, uplink);
        let Some(device) = devices.get(&index) else { continue };
        let is_pair = matches!(device.kind, Some(InfoKind::Veth | InfoKind::Netkit));
        let lower = device.lower.filter(|_| !device.elsewhere);
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
        let tells = |port: &u32| routes.contains(port) || devices[port].outside;
        let told: Vec<u32> = ports.iter().copied().filter(tells).collect();
        let (ports, uplink) = match told.is_empty() {
            _ if !has_clients || ports.len() == 1 => (ports, uplink),
            true => (ports, Uplink::Perhaps),
            false => (told, uplink),
        };
        todo.extend(ports.into_iter().map(|port| (port, None, uplink)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With 0 for none.
    fn device(kind: Option<InfoKind>, lower: u32, controller: u32) -> Device {
        let outside = matches!(kind, None | Some(InfoKind::Vlan | InfoKind::Bond));
        let some = |n| Some(n).filter(|n| *n > 0);
        Device { kind, lower: some(lower), elsewhere: false, controller: some(controller), outside }
    }

    /// Its peer's number, in another network namespace, is one that there is here, too.
    fn veth(controller: u32) -> Device {
        Device { elsewhere: true, ..device(Some(InfoKind::Veth), 1, controller) }
    }

    fn bridge() -> Device {
        device(Some(InfoKind::Bridge), 0, 0)
    }

    /// What the route uses and what there is; then what leads out for certain, and perhaps.
    type Case = (&'static str, u32, Vec<Device>, &'static [u32], &'static [u32]);

    #[test]
    fn what_a_default_route_goes_by_is_found_below_its_interface() {
        let (vlan, bond, tap) = (Some(InfoKind::Vlan), Some(InfoKind::Bond), Some(InfoKind::Tun));
        let lies_on = |kind, lower| device(kind, lower, 0);
        // Interfaces are numbered from 1 on.
        let cases: [Case; 14] = [
            ("itself", 1, vec![veth(0), veth(0)], &[1], &[]),
            ("none", 0, vec![veth(0), veth(0)], &[], &[]),
            ("one that is gone", 5, vec![veth(0)], &[5], &[]),
            ("a VLAN on it", 2, vec![veth(0), lies_on(vlan.clone(), 1), veth(0)], &[1, 2], &[]),
            (
                "a macvlan on a VLAN",
                3,
                vec![veth(0), lies_on(vlan.clone(), 1), lies_on(Some(InfoKind::MacVlan), 2)],
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
            ("a bridge of one port", 1, vec![bridge(), veth(1), veth(0)], &[1, 2], &[]),
            (
                "a bridge of veths and a tap",
                1,
                vec![bridge(), veth(1), veth(1), device(tap, 0, 1), veth(0)],
                &[1],
                &[2, 3, 4],
            ),
            ("a VLAN on a bridge", 4, vec![bridge(), veth(1), veth(1), lies_on(vlan, 1)], &[1, 4], &[2, 3]),
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
    fn a_port_with_a_route_of_its_own_is_the_bridges_uplink() {
        let devices = (1..).zip([bridge(), veth(1), veth(1), veth(1)]).collect();
        let found = uplinks(&BTreeSet::from([1, 2]), &devices);
        assert_eq!(found, BTreeMap::from([(1, Uplink::Yes), (2, Uplink::Yes)]));
    }
}
