//! Names and configs that daemons are started with.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::fake_apiserver;
use crate::lab::Lab;
use crate::objects::{Services, namespace_of};
use crate::traffic::{Mix, Traffic};

/// Names in a file or in an API server, and the traffic that is measured with them.
pub struct Load {
    pub what: &'static str,
    /// The config file in the lab of each contender.
    pub config: &'static str,
    pub traffic: &'static [Traffic],
}

pub const LOADS: [Load; 4] = [
    Load {
        what: "10,000 names by file",
        config: "file-10000.yaml",
        traffic: &[Traffic::Dns(Mix::Names(10)), Traffic::Dns(Mix::Names(10_000))],
    },
    Load { what: "100,000 names by file", config: "file-100000.yaml", traffic: &[Traffic::Dns(Mix::Names(100_000))] },
    Load {
        what: "10,000 names by API",
        config: "api-2000.yaml",
        traffic: &[Traffic::Dns(Mix::SearchList), Traffic::Tcp, Traffic::Udp],
    },
    Load { what: "100,000 names by API", config: "api-20000.yaml", traffic: &[Traffic::Dns(Mix::Services(20_000))] },
];

const FILES: [usize; 2] = [10_000, 100_000];

/// Numbers of Services; each has five names.
const SERVICES: [usize; 2] = [2_000, 20_000];

/// Port of the first fake API server.
const PORT: u16 = 8080;

/// The pages of the fake API servers, shared by all contenders.
pub struct Pages([Arc<fake_apiserver::Pages>; SERVICES.len()]);

impl Pages {
    pub fn new() -> Self {
        Self(SERVICES.map(|count| Arc::new(fake_apiserver::Pages::new(Services { count }))))
    }
}

/// The name of a static record.
pub fn static_name(i: usize) -> String {
    format!("host-{i}.group-{}.example.org", i % 100)
}

/// The name of a Service.
pub fn service_name(i: usize) -> String {
    format!("svc-{i}.{}.svc.cluster.local", namespace_of(i))
}

/// Writes all config files and names into a lab, and starts its API servers.
pub fn install(lab: &Lab, pages: &Pages) {
    const COMMON: &str = "Ifname: veth0\nNetworkDirection: Ingress\nDnsServers: any\n";
    for names in FILES {
        let mut text = "Domains:\n".to_owned();
        for i in 0..names {
            let (name, [_, a, b, c]) = (static_name(i), (i as u32).to_be_bytes());
            writeln!(text, "  - Name: {name}\n    IP: 10.{a}.{b}.{c}").expect("memory");
        }
        lab.write(&format!("domain-{names}.yaml"), &text);
        lab.write(&format!("file-{names}.yaml"), &format!("{COMMON}DomainFile: domain-{names}.yaml\n"));
    }
    lab.write("domain.yaml", "Domains: []\n");
    for ((services, pages), port) in SERVICES.iter().zip(&pages.0).zip(PORT..) {
        fake_apiserver::start(lab, port, pages);
        lab.open_kubeconfig(&format!("kubeconfig-{services}"), port);
        let config = format!("{COMMON}EnableK8S: true\nKubeConfig: kubeconfig-{services}\n");
        lab.write(&format!("api-{services}.yaml"), &config);
    }
}
