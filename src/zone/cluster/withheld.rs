//! Addresses whose reverse names are withheld from the maps. A static wildcard above such a name is suspended: the name
//! exists, so the wildcard does not cover it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::zone::name::Name;

/// The addresses whose reverse names are withheld, as of the last commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Withheld(BTreeSet<IpAddr>);

impl Withheld {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn set(&mut self, address: IpAddr, is_withheld: bool) {
        if is_withheld {
            self.0.insert(address);
        } else {
            self.0.remove(&address);
        }
    }

    /// Whether the reverse name of one of the addresses is below this name.
    pub(super) fn is_below(&self, name: &Name) -> bool {
        !self.is_empty() && below(name).is_some_and(|range| self.0.range(range).next().is_some())
    }
}

/// The range of addresses whose reverse names are below this name; None if no reverse name is.
fn below(name: &Name) -> Option<RangeInclusive<IpAddr>> {
    let labels: Vec<&str> = name.labels().map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    match labels[..] {
        ["arpa"] => Some(Ipv4Addr::UNSPECIFIED.into()..=Ipv6Addr::from(u128::MAX).into()),
        [ref octets @ .., "in-addr", "arpa"] => {
            let (first, last) = range(octets, 10, 8, 4)?;
            Some(Ipv4Addr::from(first as u32).into()..=Ipv4Addr::from(last as u32).into())
        }
        [ref digits @ .., "ip6", "arpa"] => {
            let (first, last) = range(digits, 16, 4, 32)?;
            Some(Ipv6Addr::from(first).into()..=Ipv6Addr::from(last).into())
        }
        _ => None,
    }
}

/// The lowest and the highest number with these highest parts. A number has `count` parts of `bits` bits each. `labels` are
/// its highest parts as text, the highest one last. None if a label is not a valid part, or if `labels` has all parts.
fn range(labels: &[&str], radix: u32, bits: u32, count: usize) -> Option<(u128, u128)> {
    if labels.len() >= count {
        return None;
    }
    let mut first = 0;
    for label in labels.iter().rev() {
        // Reverse names have no leading zeros.
        let is_plain = label.len() == 1 || !label.starts_with('0');
        let part = u128::from_str_radix(label, radix).ok().filter(|part| is_plain && *part < 1 << bits)?;
        first = first << bits | part;
    }
    let left = bits * (count - labels.len()) as u32;
    let part = 1_u128.checked_shl(left).unwrap_or(0).wrapping_sub(1);
    let first = first.checked_shl(left).unwrap_or(0);
    Some((first, first | part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reverse_zone_covers_the_addresses_of_its_prefix() {
        let withheld = |address: &str| Withheld(BTreeSet::from([address.parse().unwrap()]));
        let (v4, v6) = (withheld("10.96.0.1"), withheld("fd00::a1"));
        let digits = format!("1a{}df", "0".repeat(28));
        let above_v6 = |nibbles: usize| {
            digits[digits.len() - nibbles..].chars().map(|d| format!("{d}.")).collect::<String>() + "ip6.arpa"
        };
        for (name, is_below) in [
            ("arpa", [true, true]),
            ("in-addr.arpa", [true, false]),
            ("10.in-addr.arpa", [true, false]),
            ("96.10.in-addr.arpa", [true, false]),
            ("0.96.10.in-addr.arpa", [true, false]),
            ("1.0.96.10.in-addr.arpa", [false, false]),
            ("x.1.0.96.10.in-addr.arpa", [false, false]),
            ("97.10.in-addr.arpa", [false, false]),
            ("11.in-addr.arpa", [false, false]),
            ("010.in-addr.arpa", [false, false]),
            ("266.in-addr.arpa", [false, false]),
            ("x.in-addr.arpa", [false, false]),
            ("ip6.arpa", [false, true]),
            ("d.f.ip6.arpa", [false, true]),
            (&above_v6(31), [false, true]),
            (&above_v6(32), [false, false]),
            (&format!("b.{}", above_v6(30)), [false, false]),
            ("e.f.ip6.arpa", [false, false]),
            ("df.ip6.arpa", [false, false]),
            ("cluster.local", [false, false]),
        ] {
            let name = Name::parse(name).unwrap();
            assert_eq!([&v4, &v6].map(|withheld| withheld.is_below(&name)), is_below, "{name}");
        }
        assert!(!Withheld::default().is_below(&Name::parse("arpa").unwrap()));
    }
}
