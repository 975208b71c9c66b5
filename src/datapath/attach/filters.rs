//! An interface's filters on clsact, in the order in which packets meet them, and what they hang on, by netlink.

use std::io;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, Parseable as _};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};

use super::Direction;
use crate::interfaces::netlink::Connection;

/// Where an interface's clsact is, or its predecessor `ingress`; there is room for one.
const CLSACT: TcHandle = TcHandle { major: u16::MAX, minor: 0xfff1 };

/// A filter.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    /// With interface, parent, priority and handle: all that tells it from others.
    header: TcHeader,
    /// Such as `bpf` or `flower`.
    kind: String,
    /// Packets begin in chain 0; others are reached by filters that name them.
    chain: u32,
    /// A BPF filter's program: its number, and what the filter calls it.
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

    /// The program's name, else what kind of filter it is.
    pub(super) fn name(&self) -> &str {
        self.program.as_ref().map_or(&self.kind, |(_, name)| name)
    }

    fn parse(octets: &[u8]) -> io::Result<Self> {
        // Of a filter that the library can't read we need no more than that it is there.
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

/// A connection for such questions.
pub(super) struct Filters(Connection);

impl Filters {
    pub(super) fn open() -> io::Result<Self> {
        Connection::open().map(Self)
    }

    /// Those that a packet meets, the first one first; none where there is no qdisc or no interface.
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
            // Each priority announces itself by a message without a handle.
            if filter.handle() != 0 && filter.chain == 0 {
                filters.push(filter);
            }
            Ok(())
        })?;
        Ok(filters)
    }

    /// The kind of the qdisc that an interface's filters hang on, where there is one. By a list of all: the kernel tells the
    /// answer to a question about one to all who listen to changes, us among them.
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

    /// Takes a filter away; not being there any more is as good.
    pub(super) fn delete(&self, filter: &Filter) -> io::Result<()> {
        let message = TcMessage::from_parts(filter.header.clone(), Vec::new());
        match self.0.request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK, |_| Ok(())) {
            // Its interface or qdisc is gone (EINVAL), or somebody was faster.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)) => Ok(()),
            done => done,
        }
    }
}
