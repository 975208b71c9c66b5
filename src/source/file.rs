//! The static names of domain.yaml, and a watcher that follows this file and the config while other programs write them.

mod inotify;
mod inspect;
mod tracker;
mod watch;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use nix::errno::Errno;
use serde::Deserialize;
use serde_yaml::{Location, Spanned};

pub use inspect::{Text, may_be_incomplete};
pub use watch::{FileChange, FileWatcher};

use crate::yaml::{self, Error, Texts};
use crate::zone::name::Name;
use crate::zone::statics::{StaticEntry, TTL_RANGE};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Raw {
    domains: Option<Vec<RawEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    #[serde(rename = "Name")]
    name: Spanned<String>,
    #[serde(rename = "IP")]
    ip: Spanned<Texts>,
    #[serde(rename = "TTL")]
    ttl: Option<Spanned<u32>>,
    #[serde(rename = "Authoritative")]
    authoritative: Option<bool>,
}

/// Reads a file as it is now, complete or not.
///
/// # Errors
/// If the file can't be read, with the reason.
pub fn text(path: &Path) -> Text {
    inspect::text(path)
}

/// Parses and validates a domain file. One invalid entry makes the whole file invalid. None: the file is missing and
/// `optional`.
///
/// # Errors
/// If the file is invalid, with the file, the line and the reason.
pub fn parse(path: &Path, text: &Text, optional: bool) -> Result<Option<Vec<StaticEntry>>, Error> {
    match text.clone()? {
        Some(text) => validate(path, yaml::parse(path, &text)?).map(Some),
        None if optional => Ok(None),
        None => Err(missing(path)),
    }
}

/// The error for a missing file.
#[must_use]
pub fn missing(path: &Path) -> Error {
    Error::of_file(path, io::Error::from(Errno::ENOENT).to_string())
}

fn validate(path: &Path, raw: Raw) -> Result<Vec<StaticEntry>, Error> {
    let mut seen: HashMap<(Name, bool), u64> = HashMap::new();
    let mut entries = Vec::new();
    for raw in raw.domains.into_iter().flatten() {
        let at = raw.name.referenced;
        let text = raw.name.value.clone();
        let entry = entry(path, raw)?;
        if let Some(line) = seen.insert((entry.name.clone(), entry.wildcard), at.line()) {
            return Err(Error::new(
                path,
                at,
                format!("{text}: already defined in line {line}; list all addresses in one entry"),
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(path: &Path, raw: RawEntry) -> Result<StaticEntry, Error> {
    let text = raw.name.value.trim().to_owned();
    let error = |at: Location, reason: String| Error::new(path, at, format!("{text}: {reason}"));
    let (name, wildcard) = text.strip_prefix("*.").map_or((&*text, false), |n| (n, true));
    let name = Name::parse(name).map_err(|e| error(raw.name.referenced, format!("the name {e}")))?;
    if name == Name::root() {
        return Err(error(raw.name.referenced, "the root can't be answered, neither alone nor as a wildcard".into()));
    }
    let whole = raw.ip.referenced;
    let mut addresses = Vec::new();
    for (at, text) in Texts::located(raw.ip) {
        let addr: IpAddr = text.trim().parse().map_err(|_| error(at, format!("{text:?} is no IP address")))?;
        if addresses.contains(&addr) {
            return Err(error(at, format!("{addr} is listed twice")));
        }
        addresses.push(addr);
    }
    if addresses.is_empty() {
        return Err(error(whole, "no IP address".into()));
    }
    if let Some(ttl) = raw.ttl.as_ref().filter(|t| !TTL_RANGE.contains(&t.value)) {
        let range = format!("{} to {} seconds", TTL_RANGE.start(), TTL_RANGE.end());
        return Err(error(ttl.referenced, format!("TTL {} is out of range: {range}", ttl.value)));
    }
    let ttl = raw.ttl.map(|t| t.value);
    Ok(StaticEntry { name, wildcard, addresses, ttl, authoritative: raw.authoritative.unwrap_or(false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<StaticEntry>, String> {
        let path = Path::new("domain.yaml");
        yaml::parse(path, text).and_then(|raw| validate(path, raw)).map_err(|e| e.to_string())
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let entries = parse(
            "Domains:\n  - Name: Apis.example.org\n    IP: 172.16.171.52\n  - Name: db.example.org\n    \
             IP: [10.0.0.5, 10.0.0.6, \"fd00::5\"]\n    TTL: 60\n    Authoritative: true\n  \
             - Name: \"*.apps.example.org\"\n    IP: 10.0.0.9\n",
        )
        .unwrap();
        let [apis, db, apps] = &entries[..] else { panic!("three entries") };
        assert_eq!(apis.name, Name::parse("apis.example.org").unwrap());
        assert_eq!((apis.ttl, apis.authoritative, apis.wildcard), (None, false, false));
        assert_eq!(db.addresses.len(), 3);
        assert_eq!((db.ttl, db.authoritative), (Some(60), true));
        assert!(apps.wildcard);
        assert_eq!(apps.name, Name::parse("apps.example.org").unwrap());
    }

    #[test]
    fn an_empty_file_has_no_names() {
        for text in ["", "Domains:\n", "Domains: []\n"] {
            assert_eq!(parse(text), Ok(Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn errors_name_file_line_and_reason() {
        let entry = |e: &str| format!("Domains:\n  - Name: a.example\n    IP: 10.0.0.1\n  - {e}\n");
        for (text, wanted) in [
            (entry("{Name: b.example, IP: 10.0.0}"), "domain.yaml:4:27: b.example: \"10.0.0\" is no IP address"),
            (entry("{Name: b.example, IP: [10.0.0.1, x]}"), "domain.yaml:4:38: b.example: \"x\" is no IP"),
            (entry("{Name: b..example, IP: 10.0.0.1}"), "domain.yaml:4:12: b..example: the name has an empty label"),
            (entry("{Name: A.example., IP: 10.0.0.1}"), "domain.yaml:4:12: A.example.: already defined in line 2"),
            (entry("{Name: b.example, IP: 10.0.0.1, TTL: 0}"), "domain.yaml:4:42: b.example: TTL 0 is out of range"),
            (entry("{Name: b.example, IP: []}"), "domain.yaml:4:27: b.example: no IP address"),
            (
                entry("{Name: b.example, IP: [10.0.0.1, 10.0.0.1]}"),
                "domain.yaml:4:38: b.example: 10.0.0.1 is listed twice",
            ),
            (entry("{Name: b.example}"), "domain.yaml:4:"),
            (entry("{Name: b.example, IP: 10.0.0.1, Typ: A}"), "domain.yaml:4:"),
            (
                entry("{Name: a.*.example, IP: 10.0.0.1}"),
                "domain.yaml:4:12: a.*.example: the name has the character '*'",
            ),
            (entry("{Name: \"*.\", IP: 10.0.0.1}"), "domain.yaml:4:12: *.: the name has an empty label"),
            (entry("{Name: ., IP: 10.0.0.1}"), "domain.yaml:4:12: .: the root can't be answered"),
            ("Domains:\n  - Name: *.apps.example\n    IP: 10.0.0.1\n".into(), "domain.yaml:2:"),
            ("Domain:\n".into(), "domain.yaml:1:"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
        assert!(parse("Domains:\n  - Name: *.apps.example\n    IP: 10.0.0.1\n").unwrap_err().contains("quotes"));
    }
}
