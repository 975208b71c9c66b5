//! An interface's filters on clsact, in the order in which packets meet them, by netlink.

use std::io;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, Parseable as _,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::Direction;

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

/// A connection for such questions. Whoever asks waits while the kernel makes or takes away interfaces (RTNL).
pub(super) struct Filters(Socket);

impl Filters {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
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
        self.request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP, |octets| {
            let filter = Filter::parse(octets)?;
            // Each priority announces itself by a message without a handle.
            if filter.handle() != 0 && filter.chain == 0 {
                filters.push(filter);
            }
            Ok(())
        })?;
        Ok(filters)
    }

    /// Takes a filter away; not being there any more is as good.
    pub(super) fn delete(&self, filter: &Filter) -> io::Result<()> {
        let message = TcMessage::from_parts(filter.header.clone(), Vec::new());
        match self.request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK, |_| Ok(())) {
            // Its interface or qdisc is gone (EINVAL), or somebody was faster.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)) => Ok(()),
            done => done,
        }
    }

    fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.0.send(&octets, 0)?;
        // Read to the end also after an error: what is left would be taken for the next reply.
        let mut result = Ok(());
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            for message in messages(&datagram) {
                match message?.payload {
                    NetlinkPayload::InnerMessage(Octets { octets, .. }) if result.is_ok() => result = each(&octets),
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Done(d) if d.code < 0 => return Err(io::Error::from_raw_os_error(-d.code)),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return result,
                    _ => {}
                }
            }
        }
    }
}

/// The messages of a datagram.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<Octets>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<Octets>::deserialize(rest).map_err(io::Error::other);
        let length = message.as_ref().map_or(rest.len(), |m| m.header.length as usize);
        rest = rest.get(length.next_multiple_of(NLMSG_ALIGNTO as usize)..).unwrap_or_default();
        Some(message)
    })
}

/// A message's type and payload as it came: the library's own types are strict about what others' filters hold.
pub(super) struct Octets {
    pub kind: u16,
    pub octets: Vec<u8>,
}

impl NetlinkDeserializable for Octets {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self { kind: header.message_type, octets: payload.to_vec() })
    }
}
