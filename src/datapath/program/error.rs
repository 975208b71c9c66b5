//! Why the program does not load, with what helps.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use libbpf_rs::{ErrorKind, PrintLevel};

use super::variant::Options;
use crate::datapath::abi::CHUNK_VALUE;
use crate::datapath::table::{TableError, map_lines};

/// Where a kernel shows its BTF.
pub(super) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The oldest kernel with all helpers that the program calls (bpf_redirect_peer).
pub(super) const KERNEL_MIN: (u32, u32) = (5, 10);

/// Why the program is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Capabilities are missing.
    #[error(
        "no permission to load the BPF program: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
         (before Linux 5.11 CAP_SYS_RESOURCE too); in a container also with a seccomp profile that allows bpf() to CAP_BPF"
    )]
    Permission,
    /// Helpers are missing.
    #[error("Linux {0} is too old: {min}.{minor} or newer is needed", min = KERNEL_MIN.0, minor = KERNEL_MIN.1)]
    Kernel(String),
    /// The kernel shows no BTF, and the config names none.
    #[error(
        "this kernel has no BTF ({KERNEL_BTF} is not there): set ExtBTF to a BTF file of just this kernel \
         (`pahole --btf_encode_detached FILE vmlinux` makes one from its vmlinux with debug information)"
    )]
    NoBtf,
    /// The file is not there, or no BTF.
    #[error("ExtBTF: {path}: {why}")]
    ExtBtf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The BTF tells other offsets than the kernel has.
    #[error(
        "{0} is not the BTF of this kernel: fields lie elsewhere; use the file of just this build, or leave ExtBTF empty"
    )]
    WrongBtf(String),
    /// Anything else, with what libbpf had to say.
    #[error("the BPF program does not load: {0}")]
    Other(String),
    /// The maps could not be made.
    #[error(transparent)]
    Table(#[from] TableError),
}

pub(super) fn other(e: &dyn std::error::Error) -> LoadError {
    LoadError::Other(e.to_string())
}

pub(super) fn explain(e: &libbpf_rs::Error, options: &Options) -> LoadError {
    if e.kind() == ErrorKind::PermissionDenied {
        let verifier = last_warnings().join(" | ");
        // The verifier's refusal is EACCES too, but then it says so.
        return if verifier.contains("BEGIN PROG LOAD LOG") {
            LoadError::Other(format!("{e}; the verifier says: {verifier}"))
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
        return LoadError::Other(format!("no memory for maps of {mib} MiB; a lower MaxRecords needs less ({e})"));
    }
    LoadError::Other(format!("{e} ({warnings})"))
}

/// What libbpf said last, for the error that follows.
static WARNINGS: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);
const WARNINGS_MAX: usize = 8;

fn last_warnings() -> Vec<String> {
    std::mem::take(&mut WARNINGS.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// libbpf warns of things that are none, such as a qdisc that is there already: only for who debugs.
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
