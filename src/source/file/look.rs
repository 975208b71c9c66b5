//! How files look, and what is in them. All of it may block for as long as a disk does.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, fstatfs};

use super::tracker::{Look, State};
use crate::yaml;

/// What a file says, None where it is not there; or why it can't be read.
pub type Text = Result<Option<Arc<str>>, yaml::Error>;

/// The link of a ConfigMap's folder that the kubelet replaces (`atomic_writer.go`).
const SWAPPED: &str = "..data";
/// As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// `F_SETSIG` in fcntl.h, which libc lacks.
const F_SETSIG: libc::c_int = 10;
/// `CIFS_SUPER_MAGIC` and `SMB2_SUPER_MAGIC` in linux/magic.h.
const CIFS_MAGICS: [FsType; 2] = [FsType(0xff53_4d42), FsType(0xfe53_4d42)];

/// A folder and a name in it.
pub(super) type Place = (PathBuf, OsString);

/// Looks at a file; not further where its state is `idle`.
pub(super) fn look(path: &Path, idle: Option<Option<State>>) -> Look {
    let metadata = fs::metadata(path).ok();
    let state = metadata.as_ref().map(state);
    let mut look = Look {
        state,
        age: metadata.as_ref().map_or(Duration::ZERO, age),
        swapped: is_swapped(path),
        ends: true,
        writer: None,
    };
    // Others may keep who opens them waiting for ever.
    if let Some(Ok(file)) = metadata.filter(|m| m.is_file() && idle != Some(state)).map(|_| open(path)) {
        // What is too large is no better when it is whole: it is refused as it is.
        look.ends = state.is_some_and(|s| s.size > yaml::SIZE_MAX) || ends(&file).unwrap_or(true);
        look.writer = is_written(&file);
    }
    look
}

/// Reads a file that looked so; None where it looks otherwise before or afterwards.
pub(super) fn read(path: &Path, state: Option<State>) -> Option<Text> {
    let is_same = || fs::metadata(path).ok().as_ref().map(self::state) == state;
    if !is_same() {
        return None;
    }
    let text = text(path);
    is_same().then_some(text)
}

/// What a file says.
pub(super) fn text(path: &Path) -> Text {
    // A link that leads nowhere was meant to lead to a file.
    if path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    yaml::text(path).map(|text| Some(text.into()))
}

/// Whether this text of a file that is written in place is taken for half of it.
pub fn may_be_half(path: &Path, text: &str) -> bool {
    !text.is_empty() && !text.ends_with('\n') && !is_swapped(path)
}

fn is_swapped(path: &Path) -> bool {
    places(path).iter().any(|(_, name)| name == SWAPPED)
}

fn state(m: &Metadata) -> State {
    State { inode: (m.dev(), m.ino()), size: m.size(), modified: (m.mtime(), m.mtime_nsec()) }
}

/// Nothing where the clocks differ so that it was changed in the future.
fn age(m: &Metadata) -> Duration {
    m.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok()).unwrap_or_default()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Whether the last line has an end; nothing is no line.
fn ends(file: &File) -> io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(at) = file.metadata()?.len().checked_sub(1) {
        file.read_at(&mut last, at)?;
    }
    Ok(last == [b'\n'])
}

/// Whether anybody has the file open for writing: then there can be no lease on it for reading (fcntl(2)). None where the
/// kernel does not tell, since leases are for the owner of a file, and not on every file system.
fn is_written(file: &File) -> Option<bool> {
    // The server may refuse a lease for reasons of its own.
    let kind = fstatfs(file.as_fd()).ok()?.filesystem_type();
    if kind == NFS_SUPER_MAGIC || kind == SMB_SUPER_MAGIC || CIFS_MAGICS.contains(&kind) {
        return None;
    }
    let fcntl = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: the file is open, and these commands take a number.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // Who opens the file for writing before it is given back sends a signal: one that nobody minds instead of SIGIO.
    fcntl(F_SETSIG, libc::SIGURG).ok()?;
    match fcntl(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => fcntl(libc::F_SETLEASE, libc::F_UNLCK).is_ok().then_some(false),
        Err(e) => (e.kind() == io::ErrorKind::WouldBlock).then_some(true),
    }
}

/// Where a file can be replaced: its name, and each symbolic link on the way to it, with the folders that they are in.
pub(super) fn places(path: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    // What is left of the path, the next component last.
    let mut left: Vec<PathBuf> = components(path);
    let mut at = PathBuf::from(if path.is_absolute() { "/" } else { "." });
    let mut links = 0;
    while let Some(next) = left.pop() {
        let Some(name) = next.file_name() else {
            // .. or /
            at.push(&next);
            continue;
        };
        match fs::read_link(at.join(name)) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                places.push((at.clone(), name.to_owned()));
                if target.is_absolute() {
                    at = "/".into();
                }
                left.extend(components(&target));
            }
            _ if left.is_empty() => places.push((at.clone(), name.to_owned())),
            _ => at.push(name),
        }
    }
    places
}

fn components(path: &Path) -> Vec<PathBuf> {
    path.components().rev().filter(|c| *c != Component::CurDir).map(|c| PathBuf::from(c.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder of this test's, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("edns-look-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_written_while_a_writer_has_it_open() {
        let folder = Folder::new("writer");
        let path = folder.0.join("f");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"a\nb").unwrap();
        let during = look(&path, None);
        drop(file);
        let after = look(&path, None);
        assert_eq!((during.writer, after.writer), (Some(true), Some(false)));
        assert!(!after.ends && !after.swapped && during.state == after.state);
        assert!(after.age < Duration::from_secs(10));
        // Who only reads is no writer.
        let reader = File::open(&path).unwrap();
        assert_eq!(look(&path, None).writer, Some(false));
        drop(reader);
        // A writer can open it as ever.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n").unwrap();
        assert!(look(&path, None).ends);
    }

    #[test]
    fn what_changed_is_not_read() {
        let folder = Folder::new("read");
        let path = folder.0.join("f");
        assert_eq!(read(&path, None), Some(Ok(None)));
        fs::write(&path, "x\n").unwrap();
        assert_eq!(read(&path, None), None);
        let state = look(&path, None).state;
        assert_eq!(read(&path, state).unwrap().unwrap().as_deref(), Some("x\n"));
        fs::write(&path, "xy\n").unwrap();
        assert_eq!(read(&path, state), None);
        fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        assert!(read(&path, None).unwrap().is_err());
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = Folder::new("size");
        let path = folder.0.join("f");
        for (size, is_read) in [(yaml::SIZE_MAX + 1, false), (3 << 30, false), (1 << 20, true)] {
            File::create(&path).unwrap().set_len(size).unwrap();
            let look = look(&path, None);
            assert_eq!(look.ends, !is_read, "{size}");
            match read(&path, look.state).unwrap() {
                Ok(text) => assert_eq!((text.unwrap().len() as u64, is_read), (size, true)),
                Err(e) => assert!(!is_read && e.to_string().contains(&format!("has {size} octets")), "{size}: {e}"),
            }
        }
    }

    #[test]
    fn a_path_can_change_at_each_link() {
        let folder = Folder::new("places");
        let at = |name: &str| folder.0.join(name);
        fs::create_dir(at("..v1")).unwrap();
        fs::write(at("..v1/f"), "").unwrap();
        symlink("..v1", at("..data")).unwrap();
        symlink("..data/f", at("f")).unwrap();
        let wanted = [(at(""), "f"), (at(""), "..data"), (at("..v1"), "f")];
        let found = places(&at("f"));
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for ((folder, name), (wanted_folder, wanted)) in found.iter().zip(wanted) {
            assert_eq!((folder.as_path(), name.as_os_str()), (wanted_folder.as_path(), wanted.as_ref()));
        }
        assert!(look(&at("f"), None).swapped && !look(&at("..v1/f"), None).swapped);
        let half = |name, text| may_be_half(&at(name), text);
        assert!(half("..v1/f", "a\nb") && !half("..v1/f", "a\n") && !half("..v1/f", "") && !half("f", "a\nb"));
        symlink("loop", at("loop")).unwrap();
        assert!(places(&at("loop")).len() <= LINKS_MAX + 1);
        // One that is not there can come.
        assert_eq!(places(&at("none")), [(at("").components().collect(), "none".into())]);
    }
}
