//! The gates of negative answers by namespace: while changes of one namespace are late, its negative answers are held back, and
//! those of other namespaces are not.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use super::model::labels_in;
use crate::zone::name::Name;

/// Namespaces have the gates from 1 to this number.
const NAMESPACES: u64 = 254;
/// The gate of static wildcards that may cover names in any namespace.
pub const WILDCARDS: u8 = 255;

/// The gate of a namespace: a hash under a random key. Namespaces may share a gate, but a tenant can't choose with which others.
#[must_use]
pub(super) fn of(namespace: &str) -> u8 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    (1 + KEY.hash_one(namespace) % NAMESPACES) as u8
}

/// The gate of a static wildcard below `name`. It is 0 for wildcards in the cluster's zone that cover no names within a
/// namespace, because changes of Namespace objects never wait.
#[must_use]
pub fn of_wildcard(name: &Name, zone: &Name) -> u8 {
    match labels_in(name, zone).as_deref() {
        Some([.., _, "svc"]) | None => WILDCARDS,
        Some(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_of_names() {
        let zone = Name::parse("cluster.local").unwrap();
        for (name, gate) in [
            ("cluster.local", 0),
            ("svc.cluster.local", 0),
            ("a.cluster.local", 0),
            ("default.pod.cluster.local", 0),
            ("default.svc.cluster.local", WILDCARDS),
            ("web.default.svc.cluster.local", WILDCARDS),
            ("10.in-addr.arpa", WILDCARDS),
        ] {
            assert_eq!(of_wildcard(&Name::parse(name).unwrap(), &zone), gate, "{name}");
        }
        assert!((0..1000).all(|i| (1..=254).contains(&of(&format!("ns{i}")))));
    }
}
