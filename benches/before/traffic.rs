//! Traffic of a pod: queries from a file, and packets other than DNS.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::lab::{Lab, SERVER};
use crate::load::{service_name, static_name};
use crate::non_dns;
use crate::objects::{NAMESPACES, namespace_of};
use crate::rng::Rng;

/// Queries that take about a tenth of a second.
const QUERIES_PER_TENTH: u128 = 15_000;

pub enum Traffic {
    Dns(Mix),
    Tcp,
    Udp,
}

/// The names that are asked for, at random.
#[derive(Clone, Copy)]
pub enum Mix {
    /// This many static names.
    Names(usize),
    /// This many Services.
    Services(usize),
    /// Names outside of the cluster with the suffixes of a pod's search list, which don't exist.
    SearchList,
}

impl Traffic {
    pub fn what(&self) -> String {
        match self {
            Self::Dns(Mix::Names(count) | Mix::Services(count)) => format!("an answer, {count} names at random"),
            Self::Dns(Mix::SearchList) => "NXDOMAIN of a search list".to_owned(),
            Self::Tcp => "a TCP segment".to_owned(),
            Self::Udp => "a datagram other than DNS".to_owned(),
        }
    }

    /// Sends traffic for about this time.
    pub fn send(&self, lab: &Lab, time: Duration) {
        let enter_pod = || lab.netns("pod").enter();
        match self {
            Self::Dns(mix) => mix.ask(lab, time),
            Self::Tcp => drop(lab.run_in("host", || non_dns::tcp(SERVER, enter_pod, time))),
            Self::Udp => drop(lab.run_in("host", || non_dns::udp(SERVER, enter_pod, time))),
        }
    }
}

impl Mix {
    fn ask(self, lab: &Lab, time: Duration) {
        let (file, rcode) = match self {
            Self::Names(count) => (format!("names-{count}.txt"), "NOERROR"),
            Self::Services(count) => (format!("services-{count}.txt"), "NOERROR"),
            Self::SearchList => ("search-list.txt".to_owned(), "NXDOMAIN"),
        };
        if !lab.path(&file).exists() {
            lab.write(&file, &self.questions(time));
        }
        let output = lab
            .command("pod", "dnsperf")
            .args(["-s", SERVER, "-d", &file, "-c8", "-q200", "-n1"])
            .current_dir(&lab.dir)
            .stderr(Stdio::null())
            .output()
            .expect("dnsperf");
        let text = String::from_utf8_lossy(&output.stdout);
        let codes = text.lines().find_map(|l| l.trim().strip_prefix("Response codes:")).map(str::trim);
        let right = codes.is_some_and(|c| c.starts_with(rcode) && c.ends_with("(100.00%)"));
        assert!(right && output.status.success(), "{file}: {text}");
    }

    /// The queries in dnsperf's format, one a line.
    fn questions(self, time: Duration) -> String {
        let (mut rng, mut text) = (Rng::new(2), String::new());
        for i in 0..time.as_millis() * QUERIES_PER_TENTH / 100 {
            let name = match self {
                Self::Names(count) => static_name(rng.below(count)),
                Self::Services(count) => service_name(rng.below(count)),
                Self::SearchList => {
                    let (name, namespace) = (rng.below(1000), namespace_of(rng.below(NAMESPACES)));
                    let suffix = ["svc.cluster.local", "cluster.local", &format!("{namespace}.svc.cluster.local")];
                    format!("api-{name}.example.com.{}", suffix[i as usize / 2 % 3])
                }
            };
            writeln!(text, "{name} {}", if matches!(self, Self::SearchList) && i % 2 > 0 { "AAAA" } else { "A" })
                .expect("memory");
        }
        text
    }
}
