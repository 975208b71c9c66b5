//! Static names inside and outside of the cluster's zone, and names that pass: CoreDNS knows neither.

use std::fmt::Write as _;
use std::net::IpAddr;

use hickory_proto::rr::RecordType::{self, A, AAAA};

use crate::asker::Wanted;
use crate::client::Reply;
use crate::lab::Lab;
use crate::rng::Rng;

/// The config line of the names that pass.
pub const PASS_NAMES: &str = "PassNames: [db.n1.svc.cluster.local, '*.tcp.n2.svc.cluster.local']\n";

/// Entries of domain.yaml: name, address families, and whether its other types are absent (Authoritative).
const ENTRIES: [(&str, Families, bool); 9] = [
    ("apis.static.example", Families::V4, false),
    ("six.static.example", Families::V6, true),
    ("*.apps.static.example", Families::Both, false),
    ("x.y.apps.static.example", Families::V4, true),
    // No Service has this name.
    ("static.n0.svc.cluster.local", Families::V4, false),
    ("*.wild.cluster.local", Families::V4, true),
    ("x.y.wild.cluster.local", Families::Both, false),
    // A Service may have this name; the static one has precedence.
    ("web.n2.svc.cluster.local", Families::Both, false),
    ("h1.db.n2.svc.cluster.local", Families::V6, true),
];

/// The names that are asked for.
pub const NAMES: [&str; 27] = [
    "apis.static.example",
    "x.apis.static.example",
    "static.example",
    "six.static.example",
    "apps.static.example",
    "*.apps.static.example",
    "a.apps.static.example",
    "a.b.c.apps.static.example",
    "a.*.apps.static.example",
    "y.apps.static.example",
    "x.y.apps.static.example",
    "z.y.apps.static.example",
    "z.x.y.apps.static.example",
    "static.n0.svc.cluster.local",
    "x.static.n0.svc.cluster.local",
    "_http._tcp.static.n0.svc.cluster.local",
    "wild.cluster.local",
    "a.wild.cluster.local",
    "a.b.wild.cluster.local",
    "a.*.wild.cluster.local",
    "y.wild.cluster.local",
    "z.y.wild.cluster.local",
    "web.n2.svc.cluster.local",
    "x.web.n2.svc.cluster.local",
    "h1.db.n2.svc.cluster.local",
    "db.n1.svc.cluster.local",
    "h1.tcp.n2.svc.cluster.local",
];

/// A name whose address shows which version of the file is in effect.
const MARKER: &str = "marker.static.example";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    V4,
    V6,
    Both,
}

/// A version of domain.yaml.
pub struct StaticNames {
    number: u16,
    there: [bool; ENTRIES.len()],
}

impl Default for StaticNames {
    fn default() -> Self {
        Self { number: 0, there: [true; ENTRIES.len()] }
    }
}

impl StaticNames {
    /// Creates another version: entries come and go, and all addresses change.
    pub fn change(&mut self, rng: &mut Rng) {
        self.number = self.number.wrapping_add(1);
        self.there = self.there.map(|is_there| if rng.one_in(3) { rng.one_in(2) } else { is_there });
    }

    /// Replaces the file by a rename.
    pub fn write(&self, lab: &Lab) {
        let mut text = format!("Domains:\n  - {{Name: {MARKER}, IP: {}}}\n", self.v4(ENTRIES.len()));
        for (i, (name, _, authoritative)) in self.entries() {
            let addresses: Vec<String> = self.addresses(i).map(|address| format!("'{address}'")).collect();
            let addresses = addresses.join(", ");
            writeln!(
                text,
                "  - {{Name: '{name}', IP: [{addresses}], TTL: {}, Authoritative: {authoritative}}}",
                ttl(i)
            )
            .unwrap();
        }
        lab.write("domain.yaml.new", &text);
        std::fs::rename(lab.path("domain.yaml.new"), lab.path("domain.yaml")).unwrap();
    }

    /// The name of the marker, and its address.
    pub fn marker(&self) -> (&'static str, String) {
        (MARKER, format!("{MARKER}. 30 a {}", self.v4(ENTRIES.len())))
    }

    /// What eDNS has to answer, if it answers: for static names the data of the file, otherwise the server's reply.
    pub fn wanted(&self, name: &str, rtype: RecordType, server: &Reply) -> Wanted {
        let name = name.to_ascii_lowercase();
        if passes(&name) {
            return Wanted::Pass;
        }
        let Some((i, authoritative)) = self.entry(&name) else { return Wanted::Reply(server.clone()) };
        let is_asked = |address: &IpAddr| if address.is_ipv4() { rtype == A } else { rtype == AAAA };
        let answer = self.addresses(i).filter(is_asked);
        let rtype_text = rtype.to_string().to_lowercase();
        let mut reply = Reply {
            rcode: "NoError".into(),
            aa: true,
            answer: answer.map(|address| format!("{name}. {} {rtype_text} {address}", ttl(i))).collect(),
            authority: [].into(),
            additional: [].into(),
        };
        match rtype {
            _ if !reply.answer.is_empty() => {}
            A | AAAA => reply.authority = [absence(&name, i)].into(),
            _ if authoritative => reply.authority = [absence(&name, i)].into(),
            _ => return Wanted::Pass,
        }
        Wanted::Reply(reply)
    }

    /// The entry of a name by RFC 4592: its own, or the wildcard at its closest encloser.
    fn entry(&self, name: &str) -> Option<(usize, bool)> {
        let find = |name: &str| self.entries().find(|(_, entry)| entry.0 == name).map(|(i, entry)| (i, entry.2));
        let exists = |name: &str| self.entries().any(|(_, entry)| entry.0.ends_with(name) && is_at(entry.0, name));
        if let Some(own) = find(name) {
            return Some(own);
        }
        if exists(name) {
            return None;
        }
        let encloser = std::iter::successors(parent(name), |name| parent(name)).find(|above| exists(above))?;
        find(&format!("*.{encloser}"))
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &'static (&'static str, Families, bool))> {
        ENTRIES.iter().enumerate().filter(|(i, _)| self.there[*i])
    }

    fn addresses(&self, i: usize) -> impl Iterator<Item = IpAddr> {
        let families = ENTRIES[i].1;
        let (v4, v6) = (self.v4(i), format!("fd00:251::{:x}:{i:x}", self.number).parse().unwrap());
        [(v4, families != Families::V6), (v6, families != Families::V4)]
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(a, _)| a)
    }

    fn v4(&self, i: usize) -> IpAddr {
        let [high, low] = self.number.to_be_bytes();
        [10, 128 + i as u8, high, low].into()
    }
}

/// The TTL of an entry. Entries next to each other differ.
const fn ttl(i: usize) -> u32 {
    60 + i as u32
}

fn absence(name: &str, i: usize) -> String {
    format!("{name}. {} soa {name}. nobody.invalid.", ttl(i))
}

/// Whether `below` is this name or a name below it.
fn is_at(below: &str, name: &str) -> bool {
    below.len() == name.len() || below.as_bytes()[below.len() - name.len() - 1] == b'.'
}

fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

fn passes(name: &str) -> bool {
    name == "db.n1.svc.cluster.local" || name.ends_with(".tcp.n2.svc.cluster.local")
}
