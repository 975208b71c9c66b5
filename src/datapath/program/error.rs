//! Errors of loading the programs, each with the way out.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use libbpf_rs::{ErrorKind, PrintLevel};

use super::variant::Options;
use crate::datapath::abi::CHUNK_VALUE;
use crate::datapath::table::{TableError, map_lines};

/// The file in which the kernel provides its BTF.
pub(super) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The oldest kernel with all helpers that the program calls (bpf_redirect_peer).
pub(super) const KERNEL_MIN: (u32, u32) = (5, 10);

/// Why a program can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The process lacks capabilities.
    #[error(
        "no permission to load the BPF program: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
         (before Linux 5.11 CAP_SYS_RESOURCE too); in a container also with a seccomp profile that allows bpf() to CAP_BPF"
    )]
    Permission,
    /// The kernel is too old and lacks BPF helpers. The field is its release.
    #[error("Linux {0} is too old: {min}.{minor} or newer is needed", min = KERNEL_MIN.0, minor = KERNEL_MIN.1)]
    Kernel(String),
    /// The kernel provides no BTF, and the config sets no `ExtBTF`.
    #[error(
        "this kernel has no BTF ({KERNEL_BTF} does not exist); set ExtBTF to a BTF file of exactly this kernel \
         (`pahole --btf_encode_detached FILE vmlinux` makes one from a vmlinux with debug information)"
    )]
    NoBtf,
    /// The file of `ExtBTF` can't be read or is not BTF.
    #[error("ExtBTF: {path}: {why}")]
    ExtBtf {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The BTF has other field offsets than the running kernel. The field is the BTF's file.
    #[error(
        "{0} is not the BTF of this kernel: field offsets differ; use the file of exactly this build, or leave ExtBTF empty"
    )]
    WrongBtf(String),
    /// Another error, with libbpf's message.
    #[error("the BPF program does not load: {0}")]
    Other(String),
    /// The table's memory could not be set up.
    #[error(transparent)]
    Table(#[from] TableError),
}

pub(super) fn other(e: &dyn std::error::Error) -> LoadError {
    LoadError::Other(e.to_string())
}

pub(super) fn explain(e: &libbpf_rs::Error, options: &Options) -> LoadError {
    if e.kind() == ErrorKind::PermissionDenied {
        let verifier = last_warnings().join(" | ");
        // The verifier also refuses programs with EACCES, but then it writes a log.
        return if verifier.contains("BEGIN PROG LOAD LOG") {
            LoadError::Other(format!("{e}; verifier log: {verifier}"))
        } else {
            LoadError::Permission
        };
    }
    let warnings = last_warnings().join(" | ");
    if options.ext_btf.is_some() && warnings.contains("CO-RE") {
        return LoadError::WrongBtf(options.ext_btf.as_deref().unwrap_or(Path::new("")).display().to_string());
    }
    if e.kind() == ErrorKind::OutOfMemory || warnings.contains("-ENOMEM") {
        let mib = (map_lines(options.max_records as usize) * 64 + CHUNK_VALUE) >> 20;
        return LoadError::Other(format!("no memory for maps of {mib} MiB; lower MaxRecords ({e})"));
    }
    LoadError::Other(format!("{e} ({warnings})"))
}

/// The last warnings of libbpf, for the error that follows them.
static WARNINGS: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);
const WARNINGS_MAX: usize = 8;

fn last_warnings() -> Vec<String> {
    std::mem::take(&mut WARNINGS.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Logs libbpf's messages at debug level only: it also warns of harmless states, such as an existing qdisc.
pub(super) fn on_libbpf_print(level: PrintLevel, text: String) {
    let text = text.trim_end();
    log::debug!(target: "libbpf", "{text}");
    if level == PrintLevel::Warn {
        let mut warnings = WARNINGS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if warnings.len() == WARNINGS_MAX {
            warnings.remove(0);
        }
        warnings.push(text.to_owned());
    }
}
