//! YAML files, and errors that say where in them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::{Location, Options, Spanned};

/// Octets of a file, at most: some two million static names. What is larger was not meant, and may be larger than
/// the memory, as a sparse file is.
pub const SIZE_MAX: u64 = 128 << 20;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: PathBuf,
    /// Line and column, from 1 on.
    at: Option<(u64, u64)>,
    reason: String,
}

impl Error {
    /// An error at a place in the file.
    #[must_use]
    pub fn new(path: &Path, at: Location, reason: impl Into<String>) -> Self {
        let at = (at != Location::UNKNOWN).then(|| (at.line(), at.column()));
        Self { path: path.into(), at, reason: reason.into() }
    }

    /// An error of the file as a whole.
    #[must_use]
    pub fn of_file(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.into(), at: None, reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

impl std::error::Error for Error {}

/// Reads a file's text.
///
/// # Errors
/// Where it can't be read, or is larger than [`SIZE_MAX`].
pub fn text(path: &Path) -> Result<String, Error> {
    let of_file = |e: io::Error| Error::of_file(path, e.to_string());
    // Others may keep who reads them waiting for ever.
    let metadata = fs::metadata(path).map_err(of_file)?;
    if !metadata.is_file() {
        return Err(Error::of_file(path, "is no regular file"));
    }
    let mut size = metadata.len();
    if size <= SIZE_MAX {
        let mut text = String::with_capacity(size as usize);
        // It may grow meanwhile.
        File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_string(&mut text)).map_err(of_file)?;
        size = text.len() as u64;
        if size <= SIZE_MAX {
            return Ok(text);
        }
    }
    Err(Error::of_file(path, format!("has {size} octets, and the most is {SIZE_MAX} ({} MiB)", SIZE_MAX >> 20)))
}

/// What a file's text says; an empty one is a `T` with nothing set.
///
/// # Errors
/// Where it is no YAML, or holds something else than a `T`.
pub fn parse<T: DeserializeOwned + Default>(path: &Path, text: &str) -> Result<T, Error> {
    let mut options = Options::default();
    // The operator's own file, of as many names as there are.
    options.budget = None;
    let value: Option<T> = serde_yaml::from_str_with_options(text, options).map_err(|e| {
        let e = e.without_snippet();
        let reason = plain(&e.to_string());
        // YAML's own signs: an alias, and what no plain text may begin with.
        let hint = if ["alias", "anchor", "unexpected character"].iter().any(|w| reason.contains(w)) {
            "; a text that begins with * or @ needs quotes"
        } else {
            ""
        };
        Error::new(path, e.location().unwrap_or(Location::UNKNOWN), format!("{reason}{hint}"))
    })?;
    Ok(value.unwrap_or_default())
}

/// The parser's words without the place, which stands in front here, and without what is for programmers.
fn plain(reason: &str) -> String {
    let reason = reason.split(" at line ").next().unwrap_or(reason);
    let reason = [", set DuplicateKeyPolicy", "; use Option", "; use from_str", " (use from_"]
        .iter()
        .fold(reason, |reason, cut| reason.split(cut).next().unwrap_or(reason));
    reason.replace("invalid u32", "not a number that fits here").replace("invalid u16", "not a number that fits here")
}

/// A text, or a list of them.
#[derive(Debug, Default)]
pub struct Texts(Vec<(Location, String)>);

impl Texts {
    /// The texts with their places; `at` is where the whole stands.
    pub fn located(spanned: Spanned<Self>) -> impl Iterator<Item = (Location, String)> {
        let whole = spanned.referenced;
        spanned.value.0.into_iter().map(move |(at, text)| (if at == Location::UNKNOWN { whole } else { at }, text))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![(Location::UNKNOWN, text.into())]))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Texts, E> {
                Ok(Texts::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element::<Spanned<String>>()? {
                    texts.push((text.referenced, text.value));
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}
