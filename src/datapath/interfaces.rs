//! Network interfaces that the config means, as they come, go and change their names.
//!
//! The kernel's messages only say that something changed; what there is then is read anew, so a lost message loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection};
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use super::ifpattern::IfPattern;

/// A pod's start makes several messages; they are looked at together.
const SETTLE: Duration = Duration::from_millis(5);
/// After a failure to read what there is.
const RETRY: Duration = Duration::from_secs(1);

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
    /// Whether a default route of the main table uses it: nobody's client port, whatever its kind.
    pub uplink: bool,
    /// Whether it is a tap device: a virtual machine's port, or a VPN's.
    pub tap: bool,
    /// The MAC address of what it is enslaved to, a bridge mostly.
    pub controller: Option<[u8; 6]>,
    /// Whether others than this host's containers may send by it.
    pub outside: bool,
}

impl Link {
    /// Frames that may be answered on ingress.
    #[must_use]
    pub fn accepts(&self) -> Accepts {
        if !self.uplink && (self.peer_elsewhere || self.tap) {
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

/// Why interfaces are not known.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// It is named, and not there.
    #[error("Ifname: there is no interface {0} here; there are: {1}")]
    NoSuch(String, String),
    /// No Ifname, and no default route to follow.
    #[error("Ifname is empty, and there is no default route to take the interface of; there are: {0}")]
    NoDefaultRoute(String),
    /// It is named, but its packets begin with a header that the program does not know.
    #[error("Ifname: {0} has neither Ethernet nor bare IP packets")]
    Header(String),
    /// Netlink does not work.
    #[error("asking the kernel for its interfaces: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// Netlink does not work.
    #[error("asking the kernel for its interfaces: {0}")]
    Socket(#[from] io::Error),
    /// The connection that brings the messages ended.
    #[error("the kernel's messages about interfaces ended")]
    Ended,
}

type Events = futures_util::stream::BoxStream<'static, (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Interfaces that match, and the default routes by which they were chosen.
type Read = (Vec<Link>, DefaultRoutes);
/// What there is, being read.
type Reading = BoxFuture<'static, Result<Read, InterfaceError>>;

/// Follows the interfaces that match some patterns.
pub struct Interfaces {
    patterns: Vec<IfPattern>,
    handle: Handle,
    events: Events,
    known: Vec<Link>,
    /// As they were read; None where they may be others by now.
    routes: Option<DefaultRoutes>,
    /// When what happened is looked at.
    due: Option<Instant>,
    /// What is there, being read: it goes on while nobody waits for it, so that reading takes no longer where much happens.
    reading: Option<Reading>,
    connections: [AbortHandle; 2],
}

impl Interfaces {
    /// Starts to follow them; returns those that are there.
    ///
    /// # Errors
    /// Where one that is named is not there, or is no use; where netlink does not work.
    pub async fn open(patterns: Vec<IfPattern>) -> Result<(Self, Vec<Link>), InterfaceError> {
        // Two connections: where messages overrun the one's buffer, replies on the other stay whole.
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (listener, _, events) = new_multicast_connection(&groups)?;
        let (connection, handle, _) = new_connection()?;
        let (listener, stop_listener) = abortable(listener);
        let (connection, stop_connection) = abortable(connection);
        tokio::spawn(listener);
        // In a thread of its own: the kernel answers within the system call that asks, which waits while it makes or takes away
        // interfaces (RTNL).
        let runtime = runtime::Handle::current();
        std::thread::Builder::new().name("netlink".into()).spawn(move || runtime.block_on(connection))?;
        let connections = [stop_listener, stop_connection];
        let mut this = Self {
            patterns: Vec::new(),
            handle,
            events: events.boxed(),
            routes: None,
            known: Vec::new(),
            due: None,
            reading: None,
            connections,
        };
        let links = this.follow(patterns).await?;
        Ok((this, links))
    }

    /// Follows other patterns from now on; returns what matches.
    ///
    /// # Errors
    /// As [`Self::open`]; the patterns stay as they were then.
    pub async fn follow(&mut self, patterns: Vec<IfPattern>) -> Result<Vec<Link>, InterfaceError> {
        let all = all(&self.handle).await?;
        let names = || all.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
        for pattern in &patterns {
            if let IfPattern::Name(name) = pattern {
                let link = all.iter().find(|l| l.name == *name);
                let link = link.ok_or_else(|| InterfaceError::NoSuch(name.clone(), names()))?;
                if link.header == Header::Other {
                    return Err(InterfaceError::Header(name.clone()));
                }
            }
        }
        let routes = DefaultRoutes::read(&self.handle).await?;
        let links = matching(&patterns, &routes, all.clone());
        if patterns == [IfPattern::DefaultRoute] && links.is_empty() {
            return Err(InterfaceError::NoDefaultRoute(names()));
        }
        self.patterns = patterns;
        self.routes = Some(routes);
        self.reading = None;
        self.known.clone_from(&links);
        Ok(links)
    }

    /// Waits until other interfaces match, or one of them has changed; returns all. May be dropped and called again.
    ///
    /// # Errors
    /// Where netlink does not work any more.
    pub async fn changed(&mut self) -> Result<Vec<Link>, InterfaceError> {
        loop {
            if self.reading.is_none() {
                let due = match self.due {
                    Some(due) => due,
                    None => {
                        let (message, _) = self.events.next().await.ok_or(InterfaceError::Ended)?;
                        if !self.note(&message.payload) {
                            continue;
                        }
                        *self.due.insert(Instant::now() + SETTLE)
                    }
                };
                sleep_until(due).await;
            }
            let reading = match &mut self.reading {
                Some(reading) => reading,
                None => {
                    // What comes from here on is looked at again.
                    while let Some(event) = self.events.next().now_or_never() {
                        let (message, _) = event.ok_or(InterfaceError::Ended)?;
                        self.note(&message.payload);
                    }
                    let (handle, patterns, routes) = (self.handle.clone(), self.patterns.clone(), self.routes.clone());
                    let read = async move {
                        let routes = match routes {
                            Some(routes) => routes,
                            None => DefaultRoutes::read(&handle).await?,
                        };
                        Ok((matching(&patterns, &routes, all(&handle).await?), routes))
                    };
                    self.reading.insert(read.boxed())
                }
            };
            let read = reading.await;
            self.reading = None;
            // Where that failed, it is tried again.
            self.due = read.is_err().then(|| Instant::now() + RETRY);
            let (links, routes) = read?;
            self.routes = Some(routes);
            if links != self.known {
                self.known.clone_from(&links);
                return Ok(links);
            }
        }
    }

    /// Takes note of a message; whether other interfaces may match now.
    fn note(&mut self, message: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        match message {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(r) | RouteNetlinkMessage::DelRoute(r)) => {
                if r.header.destination_prefix_length != 0 {
                    return false;
                }
                self.routes = None;
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(l) | RouteNetlinkMessage::DelLink(l)) => {
                // IPv4 routes go without a message when their interface goes down.
                if self.routes.as_ref().is_some_and(|r| r.uplinks.contains(&l.header.index)) {
                    self.routes = None;
                }
            }
            // Messages that were lost.
            _ => self.routes = None,
        }
        true
    }

    /// What questions of others go by.
    pub(super) const fn netlink(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        self.connections.iter().for_each(AbortHandle::abort);
    }
}

/// All interfaces.
pub(super) async fn all(netlink: &Handle) -> Result<Vec<Link>, InterfaceError> {
    let messages = netlink.link().get().execute().map_ok(|m| (m.header.index, m));
    let messages: BTreeMap<u32, LinkMessage> = messages.try_collect().await?;
    Ok(messages.values().filter_map(|m| link(m, &messages)).collect())
}

fn matching(patterns: &[IfPattern], routes: &DefaultRoutes, all: Vec<Link>) -> Vec<Link> {
    let matches = |link: &Link| patterns.iter().any(|p| p.matches(link, routes.first));
    let all = all.into_iter().map(|l| Link { uplink: routes.uplinks.contains(&l.ifindex), ..l });
    all.filter(|l| l.header != Header::Other && matches(l)).collect()
}

/// Where the main table's default routes lead.
#[derive(Clone)]
struct DefaultRoutes {
    /// IPv4's of the lowest metric, else IPv6's.
    first: Option<u32>,
    /// All of either family, of any metric.
    uplinks: BTreeSet<u32>,
}

impl DefaultRoutes {
    async fn read(netlink: &Handle) -> Result<Self, InterfaceError> {
        let mut read = Self { first: None, uplinks: BTreeSet::new() };
        for family in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let routes = netlink.route().get(family).execute().try_filter_map(async |m| Ok(default_route(&m)));
            let routes: Vec<(u32, Vec<u32>)> = routes.try_collect().await?;
            read.uplinks.extend(routes.iter().flat_map(|(_, interfaces)| interfaces));
            let first = routes.into_iter().filter_map(|(metric, i)| Some((metric, *i.first()?))).min();
            read.first = read.first.or(first.map(|(_, interface)| interface));
        }
        Ok(read)
    }
}

fn link(message: &LinkMessage, all: &BTreeMap<u32, LinkMessage>) -> Option<Link> {
    let mut name = None;
    let mut controller = None;
    let mut kind = None;
    let mut elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(n) => name = Some(n.clone()),
            // Only where the other end is in another network namespace (rtnl_fill_link_netnsid() in the kernel).
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::Controller(c) => controller = all.get(c),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|i| if let LinkInfo::Kind(k) = i { Some(k.clone()) } else { None });
            }
            _ => {}
        }
    }
    let layer = message.header.link_layer_type;
    Some(Link {
        ifindex: message.header.index,
        name: name?,
        header: match layer {
            LinkLayerType::Ether | LinkLayerType::Loopback => Header::Ethernet,
            LinkLayerType::None | LinkLayerType::Rawip | LinkLayerType::Ppp => Header::None,
            LinkLayerType::Tunnel | LinkLayerType::Tunnel6 | LinkLayerType::Sit => Header::None,
            _ => Header::Other,
        },
        uplink: false,
        tap: matches!(kind, Some(InfoKind::Tun)) && layer == LinkLayerType::Ether,
        controller: controller.and_then(mac),
        peer_elsewhere: elsewhere && matches!(kind, Some(InfoKind::Veth | InfoKind::Netkit)),
        outside: layer != LinkLayerType::Loopback
            && matches!(kind, None | Some(InfoKind::Vlan | InfoKind::Bond | InfoKind::Team | InfoKind::MacVlan)),
    })
}

fn mac(message: &LinkMessage) -> Option<[u8; 6]> {
    message
        .attributes
        .iter()
        .find_map(|a| if let LinkAttribute::Address(mac) = a { mac.as_slice().try_into().ok() } else { None })
}

/// Metric and interfaces of a default route in the main table.
fn default_route(message: &RouteMessage) -> Option<(u32, Vec<u32>)> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let (mut metric, mut interfaces) = (0, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(t) => table = *t,
            RouteAttribute::Priority(m) => metric = *m,
            RouteAttribute::Oif(i) => interfaces.push(*i),
            RouteAttribute::MultiPath(hops) => interfaces.extend(hops.iter().map(|h| h.interface_index)),
            _ => {}
        }
    }
    let is_default = header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && table == u32::from(RouteHeader::RT_TABLE_MAIN);
    is_default.then_some((metric, interfaces))
}
