//! YAML files, and errors that name file, line and column.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::{Location, Options, Spanned};

/// Maximum size of a file, in bytes: about two million static names. A larger file, such as a sparse one, might not fit into
/// memory.
pub const SIZE_MAX: u64 = 128 << 20;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: PathBuf,
    /// Line and column, from 1; None: the mistake concerns the whole file.
    at: Option<(u64, u64)>,
    reason: String,
}

impl Error {
    /// A mistake at a place in the file.
    #[must_use]
    pub fn new(path: &Path, at: Location, reason: impl Into<String>) -> Self {
        let at = (at != Location::UNKNOWN).then(|| (at.line(), at.column()));
        Self { path: path.into(), at, reason: reason.into() }
    }

    /// A mistake that concerns the whole file.
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

/// Reads a file.
///
/// # Errors
/// If it can't be read, is not a regular file, or is larger than [`SIZE_MAX`].
pub fn text(path: &Path) -> Result<String, Error> {
    let of_file = |e: io::Error| Error::of_file(path, e.to_string());
    // Reading a FIFO or a device may block for ever.
    let metadata = fs::metadata(path).map_err(of_file)?;
    if !metadata.is_file() {
        return Err(Error::of_file(path, "is not a regular file"));
    }
    let mut size = metadata.len();
    if size <= SIZE_MAX {
        let mut text = String::with_capacity(size as usize);
        // The file may grow while it is read.
        File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_string(&mut text)).map_err(of_file)?;
        size = text.len() as u64;
        if size <= SIZE_MAX {
            return Ok(text);
        }
    }
    Err(Error::of_file(path, format!("is too large: {size} bytes, the maximum is {SIZE_MAX} ({} MiB)", SIZE_MAX >> 20)))
}

/// Parses the text of a file; an empty text is the default `T`.
///
/// # Errors
/// If it is not YAML, or does not describe a `T`.
pub fn parse<T: DeserializeOwned + Default>(path: &Path, text: &str) -> Result<T, Error> {
    let mut options = Options::default();
    // The limits are for untrusted input; the operator's file may have any number of names, up to SIZE_MAX.
    options.budget = None;
    let value: Option<T> = serde_yaml::from_str_with_options(text, options).map_err(|e| {
        let e = e.without_snippet();
        let reason = plain(&e.to_string());
        // `*` begins an alias, and `@` is reserved (YAML 1.2 §5.3): both need quotes.
        let hint = if ["alias", "anchor", "unexpected character"].iter().any(|w| reason.contains(w)) {
            "; a value that begins with * or @ needs quotes"
        } else {
            ""
        };
        Error::new(path, e.location().unwrap_or(Location::UNKNOWN), format!("{reason}{hint}"))
    })?;
    Ok(value.unwrap_or_default())
}

/// The parser's message without the place, which [`Error`] has, and without hints about Rust code.
fn plain(reason: &str) -> String {
    let reason = reason.split(" at line ").next().unwrap_or(reason);
    let reason = [", set DuplicateKeyPolicy", "; use Option", "; use from_str", " (use from_"]
        .iter()
        .fold(reason, |reason, cut| reason.split(cut).next().unwrap_or(reason));
    reason.replace("invalid u32", "not a number in range").replace("invalid u16", "not a number in range")
}

/// A value that is a text or a list of texts.
#[derive(Debug, Default)]
pub struct Texts(Vec<(Location, String)>);

impl Texts {
    /// The texts with their places; the place of the whole value where the parser gives none for an item.
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
