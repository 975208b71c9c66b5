//! Tracks the interfaces that match `Ifname`: they appear, disappear and change their names.
//!
//! A netlink notification only triggers a new read of all interfaces, so a lost notification loses nothing.

use std::time::Duration;

use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::stream::{once, select};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use super::error::InterfaceError;
use super::link::{Header, Link, Messages, all, device};
use super::pattern::IfPattern;
use super::routes::DefaultRoutes;
use super::{nexthops, uplinks};

/// Time to collect notifications before a read: a pod's start causes several.
const SETTLE: Duration = Duration::from_millis(5);
/// Wait after a failed read.
const RETRY: Duration = Duration::from_secs(1);

/// A netlink notification.
enum Notice {
    /// A link or a route changed, or messages were lost.
    Message(NetlinkPayload<RouteNetlinkMessage>),
    /// Nexthop objects may have changed.
    NextHops,
    /// The connection ended.
    Ended,
}

type Notices = futures_util::stream::BoxStream<'static, Notice>;

/// Matching interfaces, and the default routes that chose them.
type Read = (Vec<Link>, DefaultRoutes);
/// A read in progress.
type Reading = BoxFuture<'static, Result<Read, InterfaceError>>;

/// Follows the interfaces that match the patterns of `Ifname`.
pub struct Interfaces {
    patterns: Vec<IfPattern>,
    handle: Handle,
    events: Notices,
    known: Vec<Link>,
    /// Default routes of the last read; None if they may have changed since.
    routes: Option<DefaultRoutes>,
    /// When to read again; None if nothing changed.
    due: Option<Instant>,
    /// The read in progress. It survives a dropped [`Self::changed`], so that frequent events don't restart it.
    reading: Option<Reading>,
    connections: [AbortHandle; 2],
}

impl Interfaces {
    /// Starts to follow interfaces; returns those that match now.
    ///
    /// # Errors
    /// If a named interface does not exist or has an unknown link-layer header, and if netlink fails.
    pub async fn open(patterns: Vec<IfPattern>) -> Result<(Self, Vec<Link>), InterfaceError> {
        // Two connections: if notifications overrun one's buffer, replies on the other stay complete.
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (listener, _, events) = new_multicast_connection(&groups)?;
        let messages = events.map(|(message, _)| Notice::Message(message.payload)).chain(once(async { Notice::Ended }));
        let hops = nexthops::changes()?.map(|()| Notice::NextHops).chain(once(async { Notice::Ended }));
        let (connection, handle, _) = new_connection()?;
        let (listener, stop_listener) = abortable(listener);
        let (connection, stop_connection) = abortable(connection);
        tokio::spawn(listener);
        // In a thread of its own: the kernel replies within the system call of the request, which waits for the RTNL lock while
        // interfaces are added or removed.
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

    /// Replaces the patterns; returns the interfaces that match.
    ///
    /// # Errors
    /// If a named interface does not exist or has an unknown link-layer header, and if netlink fails. The old patterns stay
    /// in force then.
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

    /// Waits until the set of matching interfaces or one of them changes; returns all of them. Cancel safe: the future may be
    /// dropped and the method called again.
    ///
    /// # Errors
    /// If netlink fails. A failed read is repeated by the next call.
    pub async fn changed(&mut self) -> Result<Vec<Link>, InterfaceError> {
        loop {
            if self.reading.is_none() {
                let due = match self.due {
                    Some(due) => due,
                    None => {
                        let event = self.events.next().await.unwrap_or(Notice::Ended);
                        if !self.invalidates(&event)? {
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
                    // This read covers all events so far; later ones cause another.
                    while let Some(event) = self.events.next().now_or_never() {
                        self.invalidates(&event.unwrap_or(Notice::Ended))?;
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
            // Retry a failed read.
            self.due = read.is_err().then(|| Instant::now() + RETRY);
            let (links, routes) = read?;
            self.routes = Some(routes);
            if links != self.known {
                self.known.clone_from(&links);
                return Ok(links);
            }
        }
    }

    /// Handles a notification. True if a new read is needed. Clears the routes if they may have changed.
    fn invalidates(&mut self, event: &Notice) -> Result<bool, InterfaceError> {
        match event {
            Notice::Message(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(r) | RouteNetlinkMessage::DelRoute(r),
            )) => {
                if r.header.destination_prefix_length != 0 {
                    return Ok(false);
                }
                self.routes = None;
            }
            Notice::Message(NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(l) | RouteNetlinkMessage::DelLink(l),
            )) => {
                // The kernel removes IPv4 routes without a notification when their interface goes down.
                if self.routes.as_ref().is_some_and(|r| r.interfaces.contains(&l.header.index)) {
                    self.routes = None;
                }
            }
            // Routes survive a change of their nexthop object, and are removed without RTM_DELROUTE when it is deleted.
            Notice::NextHops => {
                if self.routes.as_ref().is_some_and(|r| !r.has_nexthop) {
                    return Ok(false);
                }
                self.routes = None;
            }
            // Messages were lost.
            Notice::Message(_) => self.routes = None,
            Notice::Ended => return Err(InterfaceError::Ended),
        }
        Ok(true)
    }

    /// The netlink connection for requests.
    pub(crate) const fn netlink(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        self.connections.iter().for_each(AbortHandle::abort);
    }
}

async fn read(netlink: &Handle) -> Result<Messages, InterfaceError> {
    Ok(netlink.link().get().execute().map_ok(|m| (m.header.index, m)).try_collect().await?)
}

/// The ifindex of every interface.
pub(crate) async fn ifindexes(netlink: &Handle) -> Result<Vec<u32>, InterfaceError> {
    Ok(read(netlink).await?.into_keys().collect())
}

fn matching(patterns: &[IfPattern], routes: &DefaultRoutes, messages: &Messages) -> Vec<Link> {
    let devices = messages.iter().map(|(index, message)| (*index, device(message))).collect();
    let uplinks = uplinks::uplinks(&routes.interfaces, &devices);
    let uplink = |link: &Link| uplinks.get(&link.ifindex).copied().unwrap_or_default();
    let all = all(messages).into_iter().map(|l| Link { uplink: uplink(&l), ..l });
    let matches = |link: &Link| patterns.iter().any(|p| p.matches(link, routes.preferred));
    all.filter(|l| l.header != Header::Other && matches(l)).collect()
}
