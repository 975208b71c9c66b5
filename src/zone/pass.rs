//! `PassNames`: names that eDNS never answers. Queries for them pass to the DNS server.

use std::collections::HashSet;

use super::name::{Name, NameError};

/// Names that pass, and suffixes: every name below a suffix passes, at any depth, but not the suffix itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassNames {
    names: HashSet<Name>,
    suffixes: HashSet<Name>,
}

impl PassNames {
    /// Adds a name, or `*.suffix`.
    ///
    /// # Errors
    /// [`NameError`] if the text, or what follows `*.`, is not a domain name.
    pub fn add(&mut self, text: &str) -> Result<(), NameError> {
        match text.strip_prefix("*.") {
            Some(suffix) => self.suffixes.insert(Name::parse(suffix)?),
            None => self.names.insert(Name::parse(text)?),
        };
        Ok(())
    }

    /// Whether the set has neither names nor suffixes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.suffixes.is_empty()
    }

    /// Whether the name passes.
    #[must_use]
    pub fn covers(&self, name: &Name) -> bool {
        self.names.contains(name)
            || (!self.suffixes.is_empty() && name.ancestors().skip(1).any(|a| self.suffixes.contains(&a)))
    }

    /// Whether every name below this one passes: it is a suffix, or lies below one.
    #[must_use]
    pub fn covers_below(&self, name: &Name) -> bool {
        name.ancestors().any(|a| self.suffixes.contains(&a))
    }

    /// The names without `*.`, in no order.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.iter()
    }

    /// The suffixes, without their `*.`, in no order.
    pub fn suffixes(&self) -> impl Iterator<Item = &Name> {
        self.suffixes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_covers_every_level_below_but_not_itself() {
        let mut pass = PassNames::default();
        pass.add("*.Corp.example").unwrap();
        pass.add("one.example.").unwrap();
        let name = |text| Name::parse(text).unwrap();
        assert!(pass.covers(&name("a.corp.example")));
        assert!(pass.covers(&name("b.a.corp.example")));
        assert!(pass.covers(&name("one.example")));
        assert!(!pass.covers(&name("corp.example")));
        assert!(!pass.covers(&name("x.one.example")));
        assert!(pass.covers_below(&name("corp.example")));
        assert!(!pass.covers_below(&name("one.example")));
        assert!(pass.add("a..b").is_err());
    }
}
