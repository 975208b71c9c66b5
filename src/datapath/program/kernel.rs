//! The running kernel's version, BTF and features that the programs need.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use libbpf_rs::ProgramType;

use super::error::{KERNEL_BTF, KERNEL_MIN, LoadError, other};

/// Whether programs can read the kernel's memory by bpf_probe_read_kernel. The helper needs CONFIG_BPF_EVENTS, as programs on
/// tracepoints do; without it some kernels have a stub. Lockdown may forbid it. It is checked once, since the check loads
/// programs.
pub(super) static CAN_READ_KERNEL: LazyLock<bool> = LazyLock::new(|| {
    let helper = libbpf_sys::BPF_FUNC_probe_read_kernel;
    ProgramType::Tracepoint.is_supported().unwrap_or(false)
        && ProgramType::SchedCls.is_helper_supported(helper).unwrap_or(false)
});

/// The length of a jiffy: the resolution of the coarse clocks.
pub(super) fn tick() -> Duration {
    nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::from_millis(1), Into::into)
}

/// Errors if the kernel is older than [`KERNEL_MIN`].
pub(super) fn check_kernel() -> Result<(), LoadError> {
    let release =
        nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).map_err(|e| other(&e))?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < KERNEL_MIN => Err(LoadError::Kernel(release)),
        _ => Ok(()),
    }
}

/// Errors if the BTF is missing or unreadable. libbpf's own message would not say what to do.
pub(super) fn check_btf(ext_btf: Option<&Path>) -> Result<(), LoadError> {
    let Some(path) = ext_btf else {
        return if Path::new(KERNEL_BTF).exists() { Ok(()) } else { Err(LoadError::NoBtf) };
    };
    let why = |why: String| LoadError::ExtBtf { path: path.into(), why };
    std::fs::File::open(path).map_err(|e| why(e.to_string()))?;
    libbpf_rs::btf::Btf::from_path(path).map_err(|e| why(format!("not a BTF file: {e}")))?;
    Ok(())
}
