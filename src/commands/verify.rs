//! `edns verify`: compares the answers in the maps with those of the DNS server, also for names that don't exist.
//!
//! The daemon runs the BPF program on each question, so gates, wildcards and negative answers apply as they do to a packet. The
//! server is asked over TCP: the program might answer a query over UDP itself.

mod compare;
mod questions;
mod server;

use std::io::{self, IsTerminal as _, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use self::compare::differences;
use self::questions::{Question, questions};
use self::server::Server;
use super::{CommandError, CommandResult, stdout};
use crate::cli::DNS_PORT;
use crate::control::client::{ask, ask_one};
use crate::control::{LookupReply, RecordReply, Request};

/// Delay before a question that differs is asked again: of eDNS and the server, one may apply a change earlier.
const SETTLE: Duration = Duration::from_secs(2);
/// Interval between progress reports on stderr.
const PROGRESS: Duration = Duration::from_millis(200);

/// Compares and prints every difference. False if there is one.
///
/// # Errors
/// If no daemon runs, or no server can be reached.
pub fn run(config: &Path, server: Option<SocketAddr>, sample: Option<usize>) -> CommandResult {
    let mut server = match server {
        Some(addr) => Server::connect(addr).map_err(|e| CommandError::Failed(format!("--server {addr}: {e}")))?,
        None => connect_default(config)?,
    };
    let mut records = Vec::new();
    ask(config, &Request::Records, |r: RecordReply| records.push(r))?;
    let questions = questions(&records, sample);
    let mut out = stdout();
    writeln!(out, "asking {} over TCP, which eDNS never answers", server.addr())?;
    out.flush()?;

    let first = pass(config, &mut server, &questions)?;
    let suspects: Vec<Question> = first.different.into_iter().map(|(question, _)| question).collect();
    let different = if suspects.is_empty() {
        Vec::new()
    } else {
        sleep(SETTLE);
        pass(config, &mut server, &suspects)?.different
    };
    for (question, lines) in &different {
        writeln!(out, "\n{} {}", question.name, RecordType::from(question.qtype))?;
        for line in lines {
            writeln!(out, "  {line}")?;
        }
    }
    let asked = questions.len() - first.passing;
    let verdict = if different.is_empty() { "no difference" } else { "differences at" };
    let count = if different.is_empty() { String::new() } else { format!(" {}", different.len()) };
    writeln!(out, "{verdict}{count} in {asked} questions; {} more pass to the server", first.passing)?;
    out.flush()?;
    Ok(different.is_empty())
}

/// The first server of DnsServers that accepts a TCP connection.
fn connect_default(config: &Path) -> Result<Server, CommandError> {
    let servers: Vec<IpAddr> = ask_one(config, &Request::Servers)?;
    if servers.is_empty() {
        return Err(CommandError::Failed(
            "no DNS server is known: DnsServers has no address at present; name a server with --server".into(),
        ));
    }
    let mut failures = Vec::new();
    for ip in servers {
        match Server::connect(SocketAddr::new(ip, DNS_PORT)) {
            Ok(server) => return Ok(server),
            Err(e) => failures.push(format!("{ip}: {e}")),
        }
    }
    Err(CommandError::Failed(format!("can't reach a DNS server ({}); name one with --server", failures.join(", "))))
}

/// Result of asking a list of questions.
#[derive(Default)]
struct Found {
    different: Vec<(Question, Vec<String>)>,
    /// Number of questions that the program passes to the server.
    passing: usize,
}

fn pass(config: &Path, server: &mut Server, questions: &[Question]) -> Result<Found, CommandError> {
    let mut found = Found::default();
    let is_watched = io::stderr().is_terminal();
    let mut said = Instant::now();
    for (done, question) in questions.iter().enumerate() {
        if is_watched && said.elapsed() >= PROGRESS {
            eprint!("\r{done} of {} questions", questions.len());
            said = Instant::now();
        }
        let reply: LookupReply =
            ask_one(config, &Request::Lookup { name: question.name.clone(), qtype: question.qtype })?;
        let Some(ours) = reply.message else {
            found.passing += 1;
            continue;
        };
        let ours = Message::from_vec(&ours).map_err(|e| CommandError::Failed(format!("{}: {e}", question.name)))?;
        let lines = match server.ask(question) {
            Ok(theirs) => differences(&ours, &theirs),
            Err(e) => vec![format!("no reply from the server: {e}")],
        };
        if !lines.is_empty() {
            found.different.push((question.clone(), lines));
        }
    }
    if is_watched {
        eprint!("\r\x1b[K");
    }
    Ok(found)
}
