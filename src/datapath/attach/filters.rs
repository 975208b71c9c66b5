//! Reads and deletes an interface's tc filters and reads its qdisc, by netlink.

use std::io;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, Parseable as _};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};

use super::Direction;
use crate::interfaces::netlink::Connection;

/// The parent handle of clsact and of the older qdisc `ingress`; an interface has at most one of them.
const CLSACT: TcHandle = TcHandle { major: u16::MAX, minor: 0xfff1 };

/// A tc filter.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    /// Interface, parent, priority and handle, which identify the filter.
    header: TcHeader,
    /// The filter's kind, such as `bpf` or `flower`.
    kind: String,
    /// The filter's chain. Packets start in chain 0; filters in it may jump to other chains.
    chain: u32,
    /// ID and name of a BPF filter's program.
    program: Option<(u32, String)>,
}

impl Filter {
    pub(super) fn handle(&self) -> u32 {
        self.header.handle.into()
    }

    pub(super) const fn priority(&self) -> u16 {
        (self.header.info >> 16) as u16
    }

    pub(super) const fn program_id(&self) -> Option<u32> {
        match self.program {
            Some((id, _)) => Some(id),
            None => None,
        }
    }

    /// The program's name; the filter's kind if it has no program.
    pub(super) fn name(&self) -> &str {
        self.program.as_ref().map_or(&self.kind, |(_, name)| name)
    }

    fn parse(octets: &[u8]) -> io::Result<Self> {
        // A filter with attributes that the library can't parse still counts, without them.
        let message =
            TcMessage::parse(octets).or_else(|_| TcHeader::parse(octets).map(|h| TcMessage::from_parts(h, Vec::new())));
        let (header, attributes) = message.map_err(io::Error::other)?.into_parts();
        let mut filter = Self { header, kind: "unknown".into(), chain: 0, program: None };
        let (mut id, mut name) = (None, String::new());
        for attribute in attributes {
            match attribute {
                TcAttribute::Kind(kind) => filter.kind = kind,
                TcAttribute::Chain(chain) => filter.chain = chain,
                TcAttribute::Options(options) => {
                    for option in options {
                        match option {
                            TcOption::Bpf(TcFilterBpfOption::ProgId(i)) => id = Some(i),
                            TcOption::Bpf(TcFilterBpfOption::ProgName(n)) => name = n,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        filter.program = id.map(|id| (id, name));
        Ok(filter)
    }
}

/// A netlink connection for requests about filters.
pub(super) struct Filters(Connection);

impl Filters {
    pub(super) fn open() -> io::Result<Self> {
        Connection::open().map(Self)
    }

    /// The filters of chain 0 in the order in which they run; empty if the qdisc or the interface does not exist.
    pub(super) fn list(&self, ifindex: u32, direction: Direction) -> io::Result<Vec<Filter>> {
        let minor = match direction {
            Direction::Ingress => TcHandle::MIN_INGRESS,
            Direction::Egress => TcHandle::MIN_EGRESS,
        };
        let mut message = TcMessage::with_index(ifindex as i32);
        message.header.parent = TcHandle { major: u16::MAX, minor };
        let mut filters = Vec::new();
        self.0.request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP, |octets| {
            let filter = Filter::parse(octets)?;
            // The kernel also sends one message without a handle for each priority.
            if filter.handle() != 0 && filter.chain == 0 {
                filters.push(filter);
            }
            Ok(())
        })?;
        Ok(filters)
    }

    /// The kind of the qdisc that holds an interface's filters; None if it has none. Dumps all qdiscs: the kernel answers a request
    /// for a single qdisc by multicast, which would wake this daemon's own listener.
    pub(super) fn qdisc(&self, ifindex: u32) -> io::Result<Option<String>> {
        let mut kind = None;
        self.0.request(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()), NLM_F_DUMP, |octets| {
            let header = TcHeader::parse(octets).map_err(io::Error::other)?;
            if header.index == ifindex as i32 && header.parent == CLSACT {
                let message = TcMessage::parse(octets).map_err(io::Error::other)?;
                kind = message.attributes.into_iter().find_map(|a| match a {
                    TcAttribute::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            Ok(())
        })?;
        Ok(kind)
    }

    /// Deletes a filter. It is no error if the filter no longer exists.
    pub(super) fn delete(&self, filter: &Filter) -> io::Result<()> {
        let message = TcMessage::from_parts(filter.header.clone(), Vec::new());
        match self.0.request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK, |_| Ok(())) {
            // Its interface or qdisc no longer exists (EINVAL), or another process deleted it.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)) => Ok(()),
            done => done,
        }
    }
}
