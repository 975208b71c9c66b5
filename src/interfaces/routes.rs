//! Default routes.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::task::spawn_blocking;

use super::error::InterfaceError;
use super::nexthops;

/// The default routes of the main table. Interfaces are given by ifindex.
#[derive(Clone, Default)]
pub(super) struct DefaultRoutes {
    /// The interface of the IPv4 route with the lowest metric, else of the IPv6 route with the lowest metric.
    pub preferred: Option<u32>,
    /// The interfaces of all routes of both families, with any metric.
    pub interfaces: BTreeSet<u32>,
    /// Whether a route names a nexthop object.
    pub has_nexthop: bool,
}

impl DefaultRoutes {
    pub(super) async fn read(netlink: &Handle) -> Result<Self, InterfaceError> {
        let mut read = Self::default();
        for family in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let routes = netlink.route().get(family).execute().try_filter_map(async |m| Ok(default_route(&m)));
            let routes: Vec<Route> = routes.try_collect().await?;
            let mut first = None;
            for Route { metric, mut interfaces, nexthop } in routes {
                if let Some(id) = nexthop {
                    read.has_nexthop = true;
                    if interfaces.is_empty() {
                        let reply = spawn_blocking(move || nexthops::interfaces(vec![id]));
                        interfaces = reply.await.map_err(io::Error::from)??;
                    }
                }
                first = [first, interfaces.first().map(|i| (metric, *i))].into_iter().flatten().min();
                read.interfaces.extend(interfaces);
            }
            read.preferred = read.preferred.or(first.map(|(_, interface)| interface));
        }
        Ok(read)
    }
}

/// A default route in the main table.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    metric: u32,
    interfaces: Vec<u32>,
    /// The ID of a nexthop object.
    nexthop: Option<u32>,
}

fn default_route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut route = Route { metric: 0, interfaces: Vec::new(), nexthop: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(t) => table = *t,
            RouteAttribute::Priority(m) => route.metric = *m,
            RouteAttribute::Oif(i) => route.interfaces.push(*i),
            RouteAttribute::MultiPath(hops) => route.interfaces.extend(hops.iter().map(|h| h.interface_index)),
            RouteAttribute::NhId(id) => route.nexthop = Some(*id),
            _ => {}
        }
    }
    let is_default = header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && table == u32::from(RouteHeader::RT_TABLE_MAIN);
    is_default.then_some(route)
}
