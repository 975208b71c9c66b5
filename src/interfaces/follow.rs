//! Network interfaces that the config means, as they come, go and change their names.
//!
//! The kernel's messages only say that something changed; what there is then is read anew, so a lost message loses nothing.

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

/// A pod's start makes several messages; they are looked at together.
const SETTLE: Duration = Duration::from_millis(5);
/// After a failure to read what there is.
const RETRY: Duration = Duration::from_secs(1);

/// What the kernel says.
enum Notice {
    Message(NetlinkPayload<RouteNetlinkMessage>),
    NextHops,
    Ended,
}

type Notices = futures_util::stream::BoxStream<'static, Notice>;

/// Interfaces that match, and the default routes by which they were chosen.
type Read = (Vec<Link>, DefaultRoutes);
/// What there is, being read.
type Reading = BoxFuture<'static, Result<Read, InterfaceError>>;

/// Follows the interfaces that match some patterns.
pub struct Interfaces {
    patterns: Vec<IfPattern>,
    handle: Handle,
    events: Notices,
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
        let messages = events.map(|(message, _)| Notice::Message(message.payload)).chain(once(async { Notice::Ended }));
        let hops = nexthops::changes()?.map(|()| Notice::NextHops).chain(once(async { Notice::Ended }));
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
                        let event = self.events.next().await.unwrap_or(Notice::Ended);
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
                        self.note(&event.unwrap_or(Notice::Ended))?;
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
    fn note(&mut self, event: &Notice) -> Result<bool, InterfaceError> {
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
                // IPv4 routes go without a message when their interface goes down.
                if self.routes.as_ref().is_some_and(|r| r.interfaces.contains(&l.header.index)) {
                    self.routes = None;
                }
            }
            // Routes of a nexthop stay when it leads elsewhere, and go without a message when it goes.
            Notice::NextHops => {
                if self.routes.as_ref().is_some_and(|r| !r.by_nexthop) {
                    return Ok(false);
                }
                self.routes = None;
            }
            // Messages that were lost.
            Notice::Message(_) => self.routes = None,
            Notice::Ended => return Err(InterfaceError::Ended),
        }
        Ok(true)
    }

    /// What questions of others go by.
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

/// The numbers of all interfaces.
pub(crate) async fn numbers(netlink: &Handle) -> Result<Vec<u32>, InterfaceError> {
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
