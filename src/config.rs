//! config.yaml: validated, with defaults.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde_yaml::{Location, Spanned};

use crate::datapath::RECORDS_MAX;
use crate::datapath::attach::Direction;
use crate::interfaces::IfPattern;
use crate::source::kubernetes::Access;
use crate::yaml::{self, Error, Texts};
use crate::zone::name::Name;
use crate::zone::pass::PassNames;
use crate::zone::statics::TTL_RANGE;

/// Name of the file with static names, in the folder of the config file, if the config has no `DomainFile`.
pub const DOMAIN_FILE: &str = "domain.yaml";
const TTL_DEFAULT: u32 = 30; // seconds
const MAX_RECORDS_DEFAULT: u32 = 1 << 18;
/// Upper limit of `MaxStale`: a year, in seconds.
const MAX_STALE_MAX: u32 = 365 * 86400;

/// An entry of `DnsServers`: servers whose queries eDNS answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerSpec {
    /// Every server.
    Any,
    /// The cluster's DNS servers: the Services labelled `k8s-app=kube-dns` in kube-system, their endpoints, and 169.254.20.10.
    Auto,
    /// The server with this address.
    Addr(IpAddr),
    /// The addresses of a Service and of its endpoints.
    Service {
        /// Namespace of the Service.
        namespace: String,
        /// Name of the Service.
        name: String,
    },
}

impl FromStr for ServerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => return Ok(Self::Any),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Ok(Self::Addr(addr.to_canonical()));
        }
        match text.split_once('/') {
            Some((namespace, name)) if [namespace, name].iter().all(|s| is_dns_label(s)) => {
                Ok(Self::Service { namespace: namespace.into(), name: name.into() })
            }
            _ => Err(format!("{text:?} is not an address, namespace/name, auto or any")),
        }
    }
}

/// Whether Kubernetes accepts this as the name of a namespace or Service (a lower-case label of RFC 1123 §2.1).
fn is_dns_label(text: &str) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(ok) && !text.starts_with('-') && !text.ends_with('-')
}

/// A validated config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of the config file.
    pub path: PathBuf,
    /// `ExtBTF`; None: the BTF of the running kernel.
    pub ext_btf: Option<PathBuf>,
    /// `EnableK8S`: whether to watch the Kubernetes API.
    pub enable_k8s: bool,
    /// `IsInK8S`: whether to connect to the API with the service account of a pod.
    pub is_in_k8s: bool,
    /// `KubeConfig`; None: `$KUBECONFIG`, then `~/.kube/config`.
    pub kube_config: Option<PathBuf>,
    /// `Ifname`: interfaces to attach to.
    pub ifname: Vec<IfPattern>,
    /// `NetworkDirection`: the hook to attach to.
    pub direction: Direction,
    /// `DomainFile`: file with static names.
    pub domain_file: PathBuf,
    /// Whether the domain file may be missing, because the config has no `DomainFile`.
    pub domain_file_optional: bool,
    /// `ClusterDomain`: the cluster zone.
    pub cluster_domain: Name,
    /// `DnsServers`; empty: every server for static names, [`ServerSpec::Auto`] for the cluster zone.
    pub dns_servers: HashSet<ServerSpec>,
    /// `NegativeAnswers`: whether to answer NXDOMAIN and NODATA in the cluster zone.
    pub negative_answers: bool,
    /// `PassNames`: names that always pass.
    pub pass_names: PassNames,
    /// `TTL`: seconds, for answers that have no TTL of their own.
    pub ttl: u32,
    /// `MaxRecords`: number of names that the maps can hold.
    pub max_records: u32,
    /// `TcPriority`: priority of the filter on clsact.
    pub tc_priority: u16,
    /// `MetricsAddr`: host:port of the HTTP server for metrics; None: no server.
    pub metrics_addr: Option<String>,
    /// `MaxStale`: seconds for which names of the cluster are answered from a stale view; 0: no limit.
    pub max_stale: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Raw {
    #[serde(rename = "ExtBTF")]
    ext_btf: Option<PathBuf>,
    #[serde(rename = "EnableK8S")]
    enable_k8s: Option<bool>,
    #[serde(rename = "IsInK8S")]
    is_in_k8s: Option<bool>,
    kube_config: Option<PathBuf>,
    ifname: Option<Spanned<Texts>>,
    network_direction: Option<Spanned<String>>,
    domain_file: Option<PathBuf>,
    cluster_domain: Option<Spanned<String>>,
    dns_servers: Option<Spanned<Texts>>,
    negative_answers: Option<bool>,
    pass_names: Option<Spanned<Texts>>,
    #[serde(rename = "TTL")]
    ttl: Option<Spanned<i64>>,
    max_records: Option<Spanned<i64>>,
    tc_priority: Option<Spanned<i64>>,
    metrics_addr: Option<Spanned<String>>,
    max_stale: Option<Spanned<i64>>,
}

impl Config {
    /// Validates the text of a config file. `path` is for error texts and relative paths. Does not check whether the interfaces and
    /// files that it names exist.
    ///
    /// # Errors
    /// With file, line, key and reason.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        Self::validate(path, yaml::parse(path, text)?)
    }

    fn validate(path: &Path, raw: Raw) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new(""));
        // Relative paths start at the folder of the config file, not at the daemon's working directory.
        let file = |p: Option<PathBuf>| p.filter(|p| !p.as_os_str().is_empty()).map(|p| folder.join(p));
        let domain_file = file(raw.domain_file);
        let check = Check { path };
        let ifname = check.texts("Ifname", raw.ifname, |patterns: &mut Vec<_>, text| {
            if !text.is_empty() {
                patterns.append(&mut IfPattern::parse_list(text)?);
            }
            Ok(())
        })?;
        Ok(Self {
            path: path.into(),
            ext_btf: file(raw.ext_btf),
            enable_k8s: raw.enable_k8s.unwrap_or(false),
            is_in_k8s: raw.is_in_k8s.unwrap_or(false),
            kube_config: file(raw.kube_config),
            ifname: if ifname.is_empty() { vec![IfPattern::DefaultRoute] } else { ifname },
            direction: check.text("NetworkDirection", raw.network_direction, direction)?.unwrap_or(Direction::Egress),
            domain_file_optional: domain_file.is_none(),
            domain_file: domain_file.unwrap_or_else(|| folder.join(DOMAIN_FILE)),
            cluster_domain: check
                .text("ClusterDomain", raw.cluster_domain, cluster_domain)?
                .map_or_else(|| Name::parse("cluster.local").map_err(|e| Error::of_file(path, e.to_string())), Ok)?,
            dns_servers: check.texts("DnsServers", raw.dns_servers, |servers: &mut HashSet<_>, text| {
                servers.insert(text.parse()?);
                Ok(())
            })?,
            negative_answers: raw.negative_answers.unwrap_or(true),
            pass_names: check.texts("PassNames", raw.pass_names, |names: &mut PassNames, text| {
                names.add(text).map_err(|e| format!("{text:?} {e}"))
            })?,
            ttl: check.number("TTL", raw.ttl, TTL_DEFAULT, TTL_RANGE)?,
            max_records: check.number("MaxRecords", raw.max_records, MAX_RECORDS_DEFAULT, 1..=RECORDS_MAX)?,
            tc_priority: check.number("TcPriority", raw.tc_priority, 1, 1..=u16::MAX)?,
            metrics_addr: check.text("MetricsAddr", raw.metrics_addr, host_port)?,
            max_stale: check.number("MaxStale", raw.max_stale, 0, 0..=MAX_STALE_MAX)?,
        })
    }

    /// Credentials for the API server.
    #[must_use]
    pub fn access(&self) -> Access {
        if self.is_in_k8s { Access::InCluster } else { Access::KubeConfig(self.kube_config.clone()) }
    }

    /// Keys whose values differ from those in `running` and that take effect only with a restart.
    #[must_use]
    pub fn changes_needing_restart(&self, running: &Self) -> Vec<&'static str> {
        let changed = [
            ("EnableK8S", self.enable_k8s != running.enable_k8s),
            ("IsInK8S", self.enable_k8s && self.is_in_k8s != running.is_in_k8s),
            ("KubeConfig", self.enable_k8s && self.kube_config != running.kube_config),
            ("ClusterDomain", self.cluster_domain != running.cluster_domain),
            ("ExtBTF", self.ext_btf != running.ext_btf),
            ("NetworkDirection", self.direction != running.direction),
            ("MaxRecords", self.max_records != running.max_records),
            ("TcPriority", self.tc_priority != running.tc_priority),
        ];
        changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
    }
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "Ingress" => Ok(Direction::Ingress),
        "Egress" => Ok(Direction::Egress),
        _ => Err(format!("{text:?} is neither Ingress nor Egress")),
    }
}

fn cluster_domain(text: &str) -> Result<Name, String> {
    match Name::parse(text) {
        Ok(name) if name == Name::root() => Err("the root can't be the cluster domain".into()),
        Ok(name) => Ok(name),
        Err(e) => Err(format!("{text:?} {e}")),
    }
}

fn host_port(text: &str) -> Result<String, String> {
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '[']),
    };
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => Ok(text.into()),
        _ => Err(format!("{text:?} is not host:port, such as 127.0.0.1:9153 or [::]:9153")),
    }
}

/// Validates values; its errors name the file, the place and the key.
struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn error(&self, key: &str, at: Location, reason: impl Display) -> Error {
        Error::new(self.path, at, format!("{key}: {reason}"))
    }

    /// Parses a text value; None if the key is missing or empty.
    fn text<T>(
        &self,
        key: &str,
        text: Option<Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let Some(text) = text.filter(|t| !t.value.trim().is_empty()) else { return Ok(None) };
        parse(text.value.trim()).map(Some).map_err(|reason| self.error(key, text.referenced, reason))
    }

    fn texts<T: Default>(
        &self,
        key: &str,
        texts: Option<Spanned<Texts>>,
        add: impl Fn(&mut T, &str) -> Result<(), String>,
    ) -> Result<T, Error> {
        let mut value = T::default();
        for (at, text) in texts.into_iter().flat_map(Texts::located) {
            add(&mut value, text.trim()).map_err(|reason| self.error(key, at, reason))?;
        }
        Ok(value)
    }

    fn number<T: TryFrom<i64> + PartialOrd + Display>(
        &self,
        key: &str,
        number: Option<Spanned<i64>>,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, Error> {
        let Some(n) = number else { return Ok(default) };
        match T::try_from(n.value) {
            Ok(value) if range.contains(&value) => Ok(value),
            _ => {
                let reason = format!("{} is out of range: {} to {}", n.value, range.start(), range.end());
                Err(self.error(key, n.referenced, reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let path = Path::new("dir/config.yaml");
        yaml::parse(path, text).and_then(|raw| Config::validate(path, raw)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_first_users_config_files_are_valid() {
        for text in [
            "ExtBTF: \nEnableK8S: true\nIsInK8S: true\nIfname: veth5b0d81b\nNetworkDirection: Ingress\n",
            "ExtBTF: \nEnableK8S: true\nIsInK8S: true\nIfname: \nNetworkDirection: Egress\n",
        ] {
            let config = parse(text).unwrap();
            assert!(config.enable_k8s && config.is_in_k8s && config.ext_btf.is_none());
        }
    }

    #[test]
    fn an_empty_file_has_all_defaults() {
        for text in ["", "# nothing\n", "---\n"] {
            let config = parse(text).unwrap();
            assert_eq!(config.direction, Direction::Egress);
            assert_eq!(config.ifname, [IfPattern::DefaultRoute]);
            assert_eq!((config.ttl, config.max_records, config.tc_priority), (30, 262_144, 1));
            assert_eq!(config.max_stale, 0);
            assert_eq!(config.cluster_domain, Name::parse("cluster.local").unwrap());
            assert!(config.negative_answers && config.dns_servers.is_empty() && config.domain_file_optional);
        }
    }

    #[test]
    fn errors_name_file_line_key_and_reason() {
        for (text, wanted) in [
            ("TTL: 0\n", "dir/config.yaml:1:6: TTL: 0 is out of range: 1 to 3600"),
            ("Ifname: eth0\nTtl: 5\n", "dir/config.yaml:2:"),
            ("TTL: soon\n", "dir/config.yaml:1:6:"),
            ("MaxStale: -1\n", "dir/config.yaml:1:11: MaxStale: -1 is out of range: 0 to 31536000"),
            ("MaxStale: 5m\n", "dir/config.yaml:1:11:"),
            ("MaxRecords: -1\n", "dir/config.yaml:1:13: MaxRecords: -1 is out of range: 1 to"),
            ("TcPriority: 70000\n", "dir/config.yaml:1:13: TcPriority: 70000 is out of range: 1 to 65535"),
            ("Ifname: @pods\n", "dir/config.yaml:1:9:"),
            ("NetworkDirection: Both\n", "dir/config.yaml:1:19: NetworkDirection: \"Both\" is neither"),
            ("DnsServers: [10.0.0.10, nope]\n", "dir/config.yaml:1:25: DnsServers: \"nope\" is not an address"),
            ("DnsServers: nope\n", "dir/config.yaml:1:13: DnsServers: \"nope\" is not an address"),
            ("PassNames:\n  - a..b\n", "dir/config.yaml:2:5: PassNames: \"a..b\" has an empty label"),
            ("ClusterDomain: .\n", "dir/config.yaml:1:16: ClusterDomain: the root"),
            ("Ifname: this-name-is-too-long\n", "dir/config.yaml:1:9: Ifname:"),
            ("MetricsAddr: 9153\n", "dir/config.yaml:1:14: MetricsAddr:"),
            ("MetricsAddr: fd00::1:9153\n", "dir/config.yaml:1:14: MetricsAddr:"),
            ("MetricsAddr: '[fd00:9153'\n", "dir/config.yaml:1:14: MetricsAddr:"),
            ("Ifname: a\nIfname: b\n", "dir/config.yaml:2:"),
            ("Ifname: [\n", "dir/config.yaml:"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(wanted), "{text:?}: {error}");
        }
        assert!(parse("Ttl: 5\n").unwrap_err().contains("Ttl"));
        assert!(parse("Ifname: @pods\n").unwrap_err().contains("quotes"));
    }

    #[test]
    fn a_list_may_be_one_text() {
        let config =
            parse("DnsServers: any\nPassNames: ['*.corp.example', x.example]\nDomainFile: names.yaml\n").unwrap();
        assert_eq!(config.dns_servers, [ServerSpec::Any].into());
        assert!(config.pass_names.covers(&Name::parse("a.corp.example").unwrap()));
        assert_eq!(config.domain_file, Path::new("dir/names.yaml"));
        assert!(!config.domain_file_optional);
        let config = parse("DnsServers: [auto, kube-system/kube-dns, '::ffff:10.0.0.10', fd00::10]\n").unwrap();
        assert!(config.dns_servers.contains(&ServerSpec::Addr("10.0.0.10".parse().unwrap())));
        assert_eq!(config.dns_servers.len(), 4);
    }

    #[test]
    fn names_the_keys_that_need_a_restart() {
        let old = parse("TTL: 30\n").unwrap();
        let new = parse("TTL: 60\nMaxStale: 300\nMaxRecords: 10\nNetworkDirection: Ingress\n").unwrap();
        assert_eq!(new.changes_needing_restart(&old), ["NetworkDirection", "MaxRecords"]);
    }
}
