//! Reads files and what the kernel knows about them. Every call may block on the disk.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, fstatfs};

use super::tracker::{FileState, Snapshot, Stat};
use crate::yaml;

/// The text of a file, None if it does not exist, or the reason why it can't be read.
pub type Text = Result<Option<Arc<str>>, yaml::Error>;

/// The link in a ConfigMap's folder that the kubelet replaces (`atomic_writer.go`).
const SWAPPED: &str = "..data";
/// The kernel's limit of links in a path (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// `F_SETSIG` of fcntl.h, which libc lacks.
const F_SETSIG: libc::c_int = 10;
/// `CIFS_SUPER_MAGIC` and `SMB2_SUPER_MAGIC` of linux/magic.h.
const CIFS_MAGICS: [FsType; 2] = [FsType(0xff53_4d42), FsType(0xfe53_4d42)];

/// A folder and a name in it.
pub(super) type Place = (PathBuf, OsString);

/// Takes a snapshot of a file. A file in the state `idle` is not opened; if `idle` is None, any file is opened.
pub(super) fn inspect(path: &Path, idle: Option<FileState>) -> Snapshot {
    let taken = Instant::now();
    let metadata = fs::metadata(path).ok();
    let state = metadata.as_ref().map(state);
    let mut snapshot = Snapshot {
        taken,
        state,
        age: metadata.as_ref().map_or(Duration::ZERO, age),
        is_swapped: is_swapped(path),
        has_newline: true,
        has_writer: None,
    };
    // Opening a FIFO or a device may block forever.
    if let Some(Ok(file)) = metadata.filter(|m| m.is_file() && idle != Some(state)).map(|_| open(path)) {
        // A file that is too large is rejected, so it need not be complete.
        snapshot.has_newline =
            state.is_some_and(|s| s.size > yaml::SIZE_MAX) || has_final_newline(&file).unwrap_or(true);
        snapshot.has_writer = is_open_for_writing(&file);
    }
    snapshot
}

/// Reads a file if its state is the same before and afterwards. None: it changed.
pub(super) fn read(path: &Path, state: FileState) -> Option<Text> {
    let is_same = || fs::metadata(path).ok().as_ref().map(self::state) == state;
    if !is_same() {
        return None;
    }
    let text = text(path);
    is_same().then_some(text)
}

/// Reads a file.
pub(super) fn text(path: &Path) -> Text {
    // A dangling link is an error, not a missing file.
    if path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    yaml::text(path).map(|text| Some(text.into()))
}

/// Whether a file with this text would be considered incomplete, as it is written in place and does not end with a newline.
pub fn may_be_incomplete(path: &Path, text: &str) -> bool {
    !text.is_empty() && !text.ends_with('\n') && !is_swapped(path)
}

fn is_swapped(path: &Path) -> bool {
    places(path).iter().any(|(_, name)| name == SWAPPED)
}

fn state(m: &Metadata) -> Stat {
    Stat { inode: (m.dev(), m.ino()), size: m.size(), modified: (m.mtime(), m.mtime_nsec()) }
}

/// Zero if the modification time is in the future, as clocks differ.
fn age(m: &Metadata) -> Duration {
    m.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok()).unwrap_or_default()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Whether the last line ends with a newline. True for an empty file.
fn has_final_newline(file: &File) -> io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(at) = file.metadata()?.len().checked_sub(1) {
        file.read_at(&mut last, at)?;
    }
    Ok(last == [b'\n'])
}

/// Whether any process has the file open for writing: the kernel refuses a read lease then (fcntl(2)). None if that is
/// unknown: only the owner of a file can take a lease, and not every file system supports leases.
fn is_open_for_writing(file: &File) -> Option<bool> {
    // A server may refuse a lease for other reasons.
    let kind = fstatfs(file.as_fd()).ok()?.filesystem_type();
    if kind == NFS_SUPER_MAGIC || kind == SMB_SUPER_MAGIC || CIFS_MAGICS.contains(&kind) {
        return None;
    }
    let fcntl = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: the file is open, and these commands take an integer.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // A process that opens the file for writing before the lease is released causes a signal: SIGURG, which is ignored, instead
    // of SIGIO.
    fcntl(F_SETSIG, libc::SIGURG).ok()?;
    match fcntl(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => fcntl(libc::F_SETLEASE, libc::F_UNLCK).is_ok().then_some(false),
        Err(e) => (e.kind() == io::ErrorKind::WouldBlock).then_some(true),
    }
}

/// The places where a file can be replaced: its name and each symbolic link on its path, with their folders.
pub(super) fn places(path: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    // The remaining components of the path, the next one last.
    let mut left: Vec<PathBuf> = components(path);
    let mut at = PathBuf::from(if path.is_absolute() { "/" } else { "." });
    let mut links = 0;
    while let Some(next) = left.pop() {
        let Some(name) = next.file_name() else {
            // `..` or `/`
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

    /// A folder of one test, removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("edns-inspect-{}-{name}", std::process::id()));
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
    fn a_file_has_a_writer_while_it_is_open_for_writing() {
        let folder = Folder::new("writer");
        let path = folder.0.join("f");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"a\nb").unwrap();
        let during = inspect(&path, None);
        drop(file);
        let after = inspect(&path, None);
        assert_eq!((during.has_writer, after.has_writer), (Some(true), Some(false)));
        assert!(!after.has_newline && !after.is_swapped && during.state == after.state);
        assert!(after.age < Duration::from_secs(10));
        // A reader is not a writer.
        let reader = File::open(&path).unwrap();
        assert_eq!(inspect(&path, None).has_writer, Some(false));
        drop(reader);
        // A writer can open the file as usual.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n").unwrap();
        assert!(inspect(&path, None).has_newline);
    }

    #[test]
    fn a_file_that_changed_is_not_read() {
        let folder = Folder::new("read");
        let path = folder.0.join("f");
        assert_eq!(read(&path, None), Some(Ok(None)));
        fs::write(&path, "x\n").unwrap();
        assert_eq!(read(&path, None), None);
        let state = inspect(&path, None).state;
        assert_eq!(read(&path, state).unwrap().unwrap().as_deref(), Some("x\n"));
        fs::write(&path, "xy\n").unwrap();
        assert_eq!(read(&path, state), None);
        fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        assert!(read(&path, None).unwrap().is_err());
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = Folder::new("size");
        let path = folder.0.join("f");
        for (size, is_read) in [(yaml::SIZE_MAX + 1, false), (3 << 30, false), (1 << 20, true)] {
            File::create(&path).unwrap().set_len(size).unwrap();
            let snapshot = inspect(&path, None);
            assert_eq!(snapshot.has_newline, !is_read, "{size}");
            match read(&path, snapshot.state).unwrap() {
                Ok(text) => assert_eq!((text.unwrap().len() as u64, is_read), (size, true)),
                Err(e) => {
                    assert!(!is_read && e.to_string().contains(&format!("is too large: {size} bytes")), "{size}: {e}")
                }
            }
        }
    }

    #[test]
    fn every_link_of_a_path_is_a_place() {
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
        assert!(inspect(&at("f"), None).is_swapped && !inspect(&at("..v1/f"), None).is_swapped);
        let incomplete = |name, text| may_be_incomplete(&at(name), text);
        assert!(
            incomplete("..v1/f", "a\nb")
                && !incomplete("..v1/f", "a\n")
                && !incomplete("..v1/f", "")
                && !incomplete("f", "a\nb")
        );
        symlink("loop", at("loop")).unwrap();
        assert!(places(&at("loop")).len() <= LINKS_MAX + 1);
        // A missing file can be created later.
        assert_eq!(places(&at("none")), [(at("").components().collect(), "none".into())]);
    }
}
