//! Patterns of the config key `Ifname`.

use glob::Pattern;

use super::link::Link;
use super::uplinks::Uplink;

/// Longest interface name in bytes (IFNAMSIZ without the final zero).
const IFNAME_MAX: usize = 15;

/// A pattern of `Ifname`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfPattern {
    /// One interface by name. It must exist at start.
    Name(String),
    /// Interfaces whose names match a glob.
    Glob(Pattern),
    /// Every veth or netkit whose peer is in another network namespace, except those of default routes: the uplink of a node
    /// that is itself a container is a veth, too.
    Pods,
    /// The interface of the default route with the lowest metric; IPv4's before IPv6's.
    DefaultRoute,
}

impl IfPattern {
    /// Parses a comma-separated list of names, globs and `@pods`.
    ///
    /// # Errors
    /// A text that quotes the invalid item.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|item| Self::parse(item.trim())).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        // dev_valid_name() in the kernel.
        let valid = |c: char| !(c.is_whitespace() || c == '/' || c == ':');
        match text {
            "" => Err("the list has an empty name".into()),
            "@pods" => Ok(Self::Pods),
            _ if text.starts_with('@') => Err(format!("{text:?} is unknown; use @pods")),
            _ if !text.chars().all(valid) => Err(format!("{text:?} is not an interface name")),
            _ if text.contains(['*', '?', '[']) => {
                Pattern::new(text).map(Self::Glob).map_err(|e| format!("{text:?} is not a glob: {e}"))
            }
            _ if text.len() > IFNAME_MAX => Err(format!("{text:?} is longer than {IFNAME_MAX} bytes")),
            _ => Ok(Self::Name(text.into())),
        }
    }

    /// Whether it selects one interface, which must exist at start. Interfaces of other patterns may come and go.
    #[must_use]
    pub const fn must_exist(&self) -> bool {
        matches!(self, Self::Name(_) | Self::DefaultRoute)
    }

    pub(super) fn matches(&self, link: &Link, default_route: Option<u32>) -> bool {
        match self {
            Self::Name(name) => *name == link.name,
            Self::Glob(pattern) => pattern.matches(&link.name),
            Self::Pods => link.is_peer_elsewhere && link.uplink != Uplink::Yes,
            Self::DefaultRoute => default_route == Some(link.ifindex),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::Header;
    use super::*;

    fn link(name: &str, is_peer_elsewhere: bool) -> Link {
        Link {
            ifindex: 7,
            name: name.into(),
            header: Header::Ethernet,
            is_peer_elsewhere,
            uplink: Uplink::No,
            is_tap: false,
            controller: None,
            is_external: false,
        }
    }

    #[test]
    fn lists_of_names_globs_and_pods() {
        let patterns = IfPattern::parse_list("eth0, veth*,@pods").unwrap();
        let matches = |l: &Link| patterns.iter().map(|p| p.matches(l, None)).collect::<Vec<_>>();
        assert_eq!(matches(&link("eth0", false)), [true, false, false]);
        assert_eq!(matches(&link("veth12", true)), [false, true, true]);
        assert_eq!(matches(&link("eth01", false)), [false, false, false]);
        let uplink = |uplink| matches(&Link { uplink, ..link("eth0", true) });
        assert_eq!(uplink(Uplink::Yes), [true, false, false], "the uplink of a node that is a container");
        assert_eq!(uplink(Uplink::Perhaps), [true, false, true], "it may be a pod's, too");
        assert!(IfPattern::DefaultRoute.matches(&link("x", false), Some(7)));
        assert!(!IfPattern::DefaultRoute.matches(&link("x", false), None));
    }

    #[test]
    fn an_impossible_interface_name_is_an_error() {
        for text in ["eth0,", ",", "@all", "eth 0", "a/b", "a:b", "0123456789abcdef", "veth[*"] {
            assert!(IfPattern::parse_list(text).is_err(), "{text}");
        }
    }
}
