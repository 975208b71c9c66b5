//! The stream of query events from the BPF programs, for `edns trace` and `edns stats --watch --top`.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use nix::time::{ClockId, clock_gettime};

use super::CommandError;
use crate::control::client::{ClientError, ask_fd, ask_one};
use crate::control::{Request, StatsReply};
use crate::datapath::{QueryEvent, QueryEvents};

/// Interval between reads of the number of lost events.
const LOST_INTERVAL: Duration = Duration::from_secs(1);

/// A trace. The daemon ends it when the connection is closed, also if this process is killed.
pub(super) struct Tracing {
    config: PathBuf,
    connection: UnixStream,
    events: QueryEvents,
    /// Start of the trace; older events are left over from an earlier trace.
    since: Duration,
    lost: u64,
    lost_read: Instant,
}

impl Tracing {
    pub(super) fn start(config: &Path) -> Result<Self, CommandError> {
        let since = monotonic()?;
        let lost = ask_one::<StatsReply>(config, &Request::Stats)?.events_lost;
        let (connection, ring) = ask_fd(config, &Request::Trace)?;
        connection.set_nonblocking(true)?;
        let events = QueryEvents::open(ring).map_err(|e| {
            CommandError::Failed(format!("can't open the ring buffer of events: {e}; run as root, or with CAP_BPF"))
        })?;
        Ok(Self { config: config.into(), connection, events, since, lost, lost_read: Instant::now() })
    }

    /// Waits for queries, `wait` at most.
    ///
    /// # Errors
    /// If the daemon has ended.
    pub(super) fn poll(&mut self, wait: Duration) -> Result<Vec<QueryEvent>, CommandError> {
        let mut events = self.events.poll(wait)?;
        events.retain(|e| e.time >= self.since);
        match self.connection.read(&mut [0]) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(events),
            Err(e) => Err(ClientError::NoReply(self.config.clone(), e).into()),
            Ok(_) => Err(ClientError::NoReply(self.config.clone(), io::ErrorKind::UnexpectedEof.into()).into()),
        }
    }

    /// Number of events that were lost since the last call that returned more than 0. Reads it once a second at most.
    ///
    /// # Errors
    /// If the daemon has ended.
    pub(super) fn lost(&mut self) -> Result<u64, CommandError> {
        if self.lost_read.elapsed() < LOST_INTERVAL {
            return Ok(0);
        }
        self.lost_read = Instant::now();
        let lost = ask_one::<StatsReply>(&self.config, &Request::Stats)?.events_lost;
        let new = lost.saturating_sub(self.lost);
        self.lost = lost;
        Ok(new)
    }
}

/// CLOCK_MONOTONIC, the clock of the events.
pub(super) fn monotonic() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// The qname and qtype of a DNS message; None if it has no question. The name is untrusted: octets that are not printable, dots
/// and backslashes within labels are escaped (RFC 1035 §5.1).
pub(super) fn question(message: &[u8]) -> Option<(String, RecordType)> {
    const HEADER_LEN: usize = 12; // RFC 1035 §4.1.1
    let mut name = String::new();
    let mut rest = message.get(HEADER_LEN..)?;
    loop {
        let (len, behind) = rest.split_first()?;
        rest = behind;
        if *len == 0 {
            break;
        }
        let (label, behind) = rest.split_at_checked(usize::from(*len)).filter(|_| *len < 64)?;
        for octet in label {
            match octet {
                b'.' | b'\\' => name.extend(['\\', char::from(*octet)]),
                b'!'..=b'~' => name.push(char::from(*octet)),
                _ => write!(name, "\\{octet:03}").ok()?,
            }
        }
        name.push('.');
        rest = behind;
    }
    if name.is_empty() {
        name.push('.');
    }
    let qtype = rest.first_chunk::<2>()?;
    Some((name, RecordType::from(u16::from_be_bytes(*qtype))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &[u8]) -> Vec<u8> {
        [&[0; 12][..], name, &[0, 28, 0, 1]].concat()
    }

    #[test]
    fn control_characters_in_names_are_escaped() {
        let (name, qtype) = question(&message(b"\x0a\x1b[2J\x00\xff.\\ b\x03Org\x00")).unwrap();
        assert_eq!((name.as_str(), qtype), ("\\027[2J\\000\\255\\.\\\\\\032b.Org.", RecordType::AAAA));
        assert_eq!(question(&message(b"\0")).unwrap().0, ".");
    }

    #[test]
    fn a_message_without_a_question_is_none() {
        for name in [&b"\xc0\x0c"[..], b"\x40a\0", b"\x05abc"] {
            assert_eq!(question(&message(name)), None, "{name:?}");
        }
        assert_eq!(question(&[0; 5]), None);
        assert_eq!(question(&[]), None);
        assert_eq!(question(&[0; 13]), None);
    }
}
