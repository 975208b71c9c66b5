//! Domain names in the form that the maps use as keys: wire format, lower case.

use std::fmt;

/// Octets of the longest name in wire format, including the root's zero octet (RFC 1035 §2.3.4).
pub const NAME_MAX: usize = 255;
/// Octets that few names exceed: the buffer that a name is built in.
const TYPICAL: usize = 128;
/// Octets of the longest label (RFC 1035 §2.3.4).
pub const LABEL_MAX: usize = 63;

/// An absolute domain name in uncompressed wire format, with ASCII letters in lower case: equal names have equal octets
/// (RFC 4343). The last octet is the root's zero.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// The reason why a text is not a domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, or a leading dot.
    #[error("has an empty label")]
    EmptyLabel,
    /// A label longer than [`LABEL_MAX`] octets.
    #[error("has a label of {0} octets; at most {LABEL_MAX} are allowed")]
    LabelTooLong(usize),
    /// A name longer than [`NAME_MAX`] octets.
    #[error("is {0} octets long on the wire; at most {NAME_MAX} are allowed")]
    TooLong(usize),
    /// A character that host and service names don't have. Escapes are not supported.
    #[error("has the character {0:?}; letters, digits, '-' and '_' are allowed")]
    Character(char),
}

impl Name {
    /// The root, `.`.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Builds a name from its labels, the leftmost first.
    ///
    /// # Errors
    /// [`NameError`] if a label is empty or has a character other than a-z, 0-9, '-' and '_', or if a label or the name is too
    /// long.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a str>) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(TYPICAL);
        for label in labels {
            push_label(&mut wire, label)?;
        }
        Self::finish(wire)
    }

    /// Parses dotted text, in upper or lower case, with or without the final dot. `"."` is the root.
    ///
    /// # Errors
    /// The errors of [`Name::from_labels`]; an empty text counts as an empty label.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(Self::root());
        }
        Self::from_labels(text.strip_suffix('.').unwrap_or(text).split('.'))
    }

    /// The name with one more label in front.
    ///
    /// # Errors
    /// The errors of [`Name::from_labels`].
    pub fn child(&self, label: &str) -> Result<Self, NameError> {
        self.below([label])
    }

    /// The name with more labels in front, the leftmost first.
    ///
    /// # Errors
    /// The errors of [`Name::from_labels`].
    pub fn below<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(TYPICAL);
        labels.into_iter().try_for_each(|label| push_label(&mut wire, label))?;
        wire.extend_from_slice(&self.0[..self.0.len() - 1]);
        Self::finish(wire)
    }

    fn finish(mut wire: Vec<u8>) -> Result<Self, NameError> {
        wire.push(0);
        if wire.len() > NAME_MAX {
            return Err(NameError::TooLong(wire.len()));
        }
        // A copy of the right size: shrinking the buffer in place would fragment the heap.
        Ok(Self(wire[..].into()))
    }

    /// Reads the uncompressed name at the start of some octets and folds its case. None if they hold no complete name, which
    /// can happen only if a map is damaged: user input goes through [`Name::parse`].
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        loop {
            let len = *bytes.get(at)? as usize;
            at += 1;
            if len == 0 {
                break;
            }
            if len > LABEL_MAX {
                return None;
            }
            at += len;
        }
        (at <= NAME_MAX).then(|| Self(bytes[..at].to_ascii_lowercase().into()))
    }

    /// The octets in wire format, in lower case, with the final zero.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, the leftmost first, without the root's empty one.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let len = rest[0] as usize;
            if len == 0 {
                return None;
            }
            let label = &rest[1..=len];
            rest = &rest[1 + len..];
            Some(label)
        })
    }

    /// The number of labels; 0 for the root.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The name without its first label; None for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let len = self.0[0] as usize;
        (len != 0).then(|| Self(self.0[1 + len..].into()))
    }

    /// The name itself and then its ancestors, the root last.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// Whether the name is `zone` or lies below it.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        // Equal octets at the end are not enough: they have to start where a label starts.
        let (mut at, wanted) = (0, self.0.len().checked_sub(zone.0.len()));
        loop {
            match wanted {
                Some(w) if w == at => return self.0[at..] == *zone.0,
                Some(w) if w > at => at += 1 + self.0[at] as usize,
                _ => return false,
            }
        }
    }
}

fn push_label(wire: &mut Vec<u8>, label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > LABEL_MAX {
        return Err(NameError::LabelTooLong(label.len()));
    }
    if let Some(c) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
        return Err(NameError::Character(c));
    }
    wire.push(label.len() as u8);
    wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    Ok(())
}

impl fmt::Display for Name {
    /// Dotted text with the final dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        self.labels().try_for_each(|l| write!(f, "{}.", String::from_utf8_lossy(l)))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_equal_in_any_case_and_with_or_without_the_final_dot() {
        let name = Name::parse("Apis.Example.ORG").unwrap();
        assert_eq!(name, Name::parse("apis.example.org.").unwrap());
        assert_eq!(name.wire(), b"\x04apis\x07example\x03org\0");
        assert_eq!(name.to_string(), "apis.example.org.");
        assert_eq!(Name::from_wire(b"\x04APIS\x07example\x03org\0rest"), Some(name));
    }

    #[test]
    fn names_beyond_the_limits_are_refused() {
        assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(""), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LabelTooLong(64)));
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(Name::parse(&long).unwrap().wire().len(), 255);
        assert_eq!(Name::parse(&format!("{long}e")), Err(NameError::TooLong(256)));
        assert_eq!(Name::parse("a b"), Err(NameError::Character(' ')));
        assert_eq!(Name::parse("*.b"), Err(NameError::Character('*')));
        assert_eq!(Name::from_wire(b"\x04abc"), None);
        assert_eq!(Name::from_wire(b"\xc0\x0c"), None);
    }

    #[test]
    fn a_name_is_within_a_zone_only_at_a_label_boundary() {
        let zone = Name::parse("cluster.local").unwrap();
        assert!(zone.is_within(&zone));
        assert!(Name::parse("a.cluster.local").unwrap().is_within(&zone));
        assert!(!Name::parse("acluster.local").unwrap().is_within(&zone));
        assert!(!Name::parse("local").unwrap().is_within(&zone));
        assert!(zone.is_within(&Name::root()));
        // The octets within a label may look like another label.
        let tricky = Name::from_wire(b"\x0dx\x07cluster\x03loc\0").unwrap();
        assert!(!tricky.is_within(&Name::parse("cluster.loc").unwrap()));
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let names: Vec<_> = Name::parse("a.b").unwrap().ancestors().map(|n| n.to_string()).collect();
        assert_eq!(names, ["a.b.", "b.", "."]);
    }
}
