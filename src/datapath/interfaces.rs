//! Network interfaces that the config means, as they come, go and change their names.
//!
//! The kernel's messages only say that something changed; what there is then is read anew, so a lost message loses nothing.

mod nexthops;
mod routes;
mod uplinks;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::stream::{once, select};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use self::routes::DefaultRoutes;
use self::uplinks::Device;
pub use self::uplinks::Uplink;
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

/// What the kernel says.
enum Event {
    Message(NetlinkPayload<RouteNetlinkMessage>),
    NextHops,
    Ended,
}

type Events = futures_util::stream::BoxStream<'static, Event>;

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
        let messages = events.map(|(message, _)| Event::Message(message.payload)).chain(once(async { Event::Ended }));
        let hops = nexthops::changes()?.map(|()| Event::NextHops).chain(once(async { Event::Ended }));
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
            events: select(messages, hops).boxed(),
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
        let links = read(&self.handle).await?;
        let all = all(&links);
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
        let links = matching(&patterns, &routes, &links);
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
                        let event = self.events.next().await.unwrap_or(Event::Ended);
                        if !self.note(&event)? {
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
                        self.note(&event.unwrap_or(Event::Ended))?;
                    }
                    let (handle, patterns, routes) = (self.handle.clone(), self.patterns.clone(), self.routes.clone());
                    let read = async move {
                        let routes = match routes {
                            Some(routes) => routes,
                            None => DefaultRoutes::read(&handle).await?,
                        };
                        Ok((matching(&patterns, &routes, &read(&handle).await?), routes))
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

    /// Takes note of what the kernel says; whether other interfaces may match now.
    fn note(&mut self, event: &Event) -> Result<bool, InterfaceError> {
        match event {
            Event::Message(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(r) | RouteNetlinkMessage::DelRoute(r),
            )) => {
                if r.header.destination_prefix_length != 0 {
                    return Ok(false);
                }
                self.routes = None;
            }
            Event::Message(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(l) | RouteNetlinkMessage::DelLink(l),
            )) => {
                // IPv4 routes go without a message when their interface goes down.
                if self.routes.as_ref().is_some_and(|r| r.interfaces.contains(&l.header.index)) {
                    self.routes = None;
                }
            }
            // Routes of a nexthop stay when it leads elsewhere, and go without a message when it goes.
            Event::NextHops => {
                if self.routes.as_ref().is_some_and(|r| !r.by_nexthop) {
                    return Ok(false);
                }
                self.routes = None;
            }
            // Messages that were lost.
            Event::Message(_) => self.routes = None,
            Event::Ended => return Err(InterfaceError::Ended),
        }
        Ok(true)
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

/// What there is, by number.
type Messages = BTreeMap<u32, LinkMessage>;

async fn read(netlink: &Handle) -> Result<Messages, InterfaceError> {
    Ok(netlink.link().get().execute().map_ok(|m| (m.header.index, m)).try_collect().await?)
}

/// All interfaces, whatever routes say.
fn all(messages: &Messages) -> Vec<Link> {
    messages.values().filter_map(|m| link(m, messages)).collect()
}

/// The numbers of all interfaces.
pub(super) async fn numbers(netlink: &Handle) -> Result<Vec<u32>, InterfaceError> {
    Ok(read(netlink).await?.into_keys().collect())
}

fn matching(patterns: &[IfPattern], routes: &DefaultRoutes, messages: &Messages) -> Vec<Link> {
    let devices = messages.iter().map(|(index, message)| (*index, device(message))).collect();
    let uplinks = uplinks::uplinks(&routes.interfaces, &devices);
    let uplink = |link: &Link| uplinks.get(&link.ifindex).copied().unwrap_or_default();
    let all = all(messages).into_iter().map(|l| Link { uplink: uplink(&l), ..l });
    let matches = |link: &Link| patterns.iter().any(|p| p.matches(link, routes.first));
    all.filter(|l| l.header != Header::Other && matches(l)).collect()
}

fn device(message: &LinkMessage) -> Device {
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
