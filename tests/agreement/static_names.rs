//! Static names of all shapes, outside the cluster's zone and in it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::lab::Lab;
use crate::rng::Rng;

/// Lines of the config: names that always pass.
pub const PASS_NAMES: &str = "PassNames: [db.n1.svc.cluster.local, '*.tcp.n2.svc.cluster.local', '*.pass.example']\n";

/// Entries of domain.yaml: the name, how many addresses of IPv4 and of IPv6 it has, and whether its other types get NODATA.
const ENTRIES: [(&str, usize, usize, bool); 17] = [
    ("apis.static.example", 1, 0, false),
    ("six.static.example", 0, 1, true),
    ("some.static.example", 5, 3, false),
    // Around 512 octets.
    ("s28.static.example", 28, 16, false),
    ("s29.static.example", 29, 17, false),
    ("s30.static.example", 30, 18, true),
    // Around 1232 octets.
    ("many.static.example", 73, 41, false),
    ("too-many.static.example", 75, 43, false),
    ("*.apps.static.example", 1, 1, false),
    ("x.y.apps.static.example", 1, 0, true),
    ("a-label-of-sixty-three-octets-which-is-all-that-a-label-may-be.x", 2, 1, false),
    ("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.deep.example", 1, 0, false),
    ("static.n0.svc.cluster.local", 1, 0, false),
    ("*.wild.cluster.local", 1, 0, true),
    ("x.y.wild.cluster.local", 1, 1, false),
    // A Service may have this name, too; the static one wins.
    ("web.n2.svc.cluster.local", 2, 2, false),
    ("h1.db.n2.svc.cluster.local", 0, 1, true),
];

/// Names to ask for: those of the entries, below and above them.
pub const NAMES: [&str; 42] = [
    "apis.static.example",
    "apis.static.example",
    "x.apis.static.example",
    "static.example",
    "six.static.example",
    "six.static.example",
    "some.static.example",
    "some.static.example",
    "s28.static.example",
    "s28.static.example",
    "s29.static.example",
    "s29.static.example",
    "s30.static.example",
    "s30.static.example",
    "many.static.example",
    "many.static.example",
    "too-many.static.example",
    "apps.static.example",
    "*.apps.static.example",
    "a.apps.static.example",
    "a.apps.static.example",
    "a.b.c.apps.static.example",
    "a.*.apps.static.example",
    "y.apps.static.example",
    "x.y.apps.static.example",
    "z.x.y.apps.static.example",
    "a-label-of-sixty-three-octets-which-is-all-that-a-label-may-be.x",
    "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.deep.example",
    "z.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.deep.example",
    "static.n0.svc.cluster.local",
    "x.static.n0.svc.cluster.local",
    "wild.cluster.local",
    "a.wild.cluster.local",
    "a.b.wild.cluster.local",
    "a.*.wild.cluster.local",
    "z.y.wild.cluster.local",
    "web.n2.svc.cluster.local",
    "x.web.n2.svc.cluster.local",
    "h1.db.n2.svc.cluster.local",
    "db.n1.svc.cluster.local",
    "h1.tcp.n2.svc.cluster.local",
    "x.pass.example",
];

/// Its address shows which version of the file is live.
pub const MARKER: &str = "marker.static.example";

/// A version of domain.yaml.
pub struct Statics {
    number: u16,
    exists: [bool; ENTRIES.len()],
}

impl Default for Statics {
    fn default() -> Self {
        Self { number: 0, exists: [true; ENTRIES.len()] }
    }
}

impl Statics {
    /// Changes all addresses; some names come and some go.
    pub fn change(&mut self, rng: &mut Rng) {
        self.number = self.number.wrapping_add(1);
        self.exists = self.exists.map(|exists| if rng.one_in(3) { !rng.one_in(4) } else { exists });
    }

    /// Replaces the file as a whole.
    pub fn write(&self, lab: &Lab) {
        let [high, low] = self.number.to_be_bytes();
        let mut text = format!("Domains:\n  - {{Name: {MARKER}, IP: {}}}\n", self.marker());
        for (i, (name, v4, v6, authoritative)) in ENTRIES.iter().enumerate().filter(|(i, _)| self.exists[*i]) {
            let v4 = (0..*v4).map(|n| format!("10.{}.{low}.{n}", 128 + i));
            let v6 = (0..*v6).map(|n| format!("'fd00:251:{high:x}{low:02x}::{i:x}:{n:x}'"));
            let addresses: Vec<String> = v4.chain(v6).collect();
            let (addresses, ttl) = (addresses.join(", "), 60 + i);
            writeln!(text, "  - {{Name: '{name}', IP: [{addresses}], TTL: {ttl}, Authoritative: {authoritative}}}")
                .expect("memory");
        }
        lab.write("domain.yaml.new", &text);
        std::fs::rename(lab.path("domain.yaml.new"), lab.path("domain.yaml")).expect("the lab's folder");
    }

    /// The address of [`MARKER`].
    pub fn marker(&self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        [10, 127, high, low].into()
    }
}
