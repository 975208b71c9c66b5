//! Which gate of negative answers the names of a namespace have: changes of one namespace that take long hold back what is said of
//! absence there, and not elsewhere.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use super::model::labels_in;
use crate::zone::name::Name;

/// Gates of namespaces are 1 to this.
const NAMESPACES: u64 = 254;
/// The gate of static wildcards that speak for names which any namespace may have.
pub const WILDCARDS: u8 = 255;

/// The gate of a namespace. Some share one where there are many; nobody can choose with whom.
#[must_use]
pub(super) fn of(namespace: &str) -> u8 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    (1 + KEY.hash_one(namespace) % NAMESPACES) as u8
}

/// The gate of a static wildcard below this name. Names of namespaces are never late, so in the cluster's zone it is that of the zone
/// where the wildcard speaks for no name within a namespace.
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
