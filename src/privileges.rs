//! Gives up what the daemon does not need of the rights that it was started with.

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// What the daemon goes on to use, where it has it.
const KEPT: [Capability; 5] = [
    // Programs are loaded and maps made whenever interfaces and names come.
    Capability::CAP_BPF,
    // To have programs of this type, and to attach them.
    Capability::CAP_NET_ADMIN,
    // The verifier lets programs compute with pointers and read the kernel's structures.
    Capability::CAP_PERFMON,
    // Root's own: files in the folder of somebody else, who may be the one that ran sudo, are read again when they change.
    Capability::CAP_DAC_OVERRIDE,
    // A MetricsAddr with a port below 1024.
    Capability::CAP_NET_BIND_SERVICE,
];

/// Raises limits, then drops all capabilities but those that are used, for good. To be called before there are other threads:
/// capabilities are a thread's own. What can't be dropped stays.
pub fn drop_unneeded() {
    raise_limits();
    if let Err(e) = drop_capabilities() {
        log::warn!("dropping capabilities: {e}");
    }
    if let Err(e) = nix::sys::prctl::set_no_new_privs() {
        log::warn!("no_new_privs: {e}");
    }
}

fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    let kept: CapsHashSet = KEPT.into();
    // Programs that this one starts (those of a kubeconfig, say) can't have the rest again either. Only root may say so.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for cap in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *cap)?;
        }
    }
    let had = caps::read(None, CapSet::Permitted)?;
    let permitted = had.intersection(&kept).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // In this order: nothing is effective that is not permitted.
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::set(None, CapSet::Permitted, &permitted)
}

/// A tcx link is a file, as is a command's connection; before Linux 5.11 maps count as locked memory.
fn raise_limits() {
    let files = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(e) = files {
        log::debug!("the limit of open files stays: {e}");
    }
    match setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        // It takes CAP_SYS_RESOURCE, and later kernels do without.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(e) => log::debug!("the limit of locked memory stays: {e}"),
    }
}
