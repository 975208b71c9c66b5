//! Drops the privileges that the daemon does not need.

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Capabilities that the daemon keeps if it has them.
const KEPT: [Capability; 5] = [
    // Loads programs and makes maps at run time, as interfaces and names appear.
    Capability::CAP_BPF,
    // Loads and attaches programs of type sched_cls.
    Capability::CAP_NET_ADMIN,
    // The verifier then allows pointer arithmetic and reads of kernel structures.
    Capability::CAP_PERFMON,
    // Root reads config files again in a folder of another user, such as the one that ran sudo.
    Capability::CAP_DAC_OVERRIDE,
    // For a MetricsAddr with a port below 1024.
    Capability::CAP_NET_BIND_SERVICE,
];

/// Raises resource limits, drops all capabilities that the daemon does not use, and sets no_new_privs. Call it while the process
/// has one thread: capabilities belong to a thread. A failure is logged, and the capabilities stay.
pub fn drop_unneeded() {
    raise_limits();
    if let Err(e) = drop_capabilities() {
        log::warn!("can't drop capabilities: {e}");
    }
    if let Err(e) = nix::sys::prctl::set_no_new_privs() {
        log::warn!("can't set no_new_privs: {e}");
    }
}

fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    let kept: CapsHashSet = KEPT.into();
    // Child processes, such as the exec plugins of a kubeconfig, can't regain the others. Takes CAP_SETPCAP.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for cap in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *cap)?;
        }
    }
    let had = caps::read(None, CapSet::Permitted)?;
    let permitted = had.intersection(&kept).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // In this order: the effective set must be a subset of the permitted set.
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::set(None, CapSet::Permitted, &permitted)
}

/// Each tcx link and each connection takes a file descriptor; before Linux 5.11 maps count as locked memory.
fn raise_limits() {
    let files = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(e) = files {
        log::debug!("can't raise RLIMIT_NOFILE: {e}");
    }
    match setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        // Takes CAP_SYS_RESOURCE; later kernels do not need it.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(e) => log::debug!("can't raise RLIMIT_MEMLOCK: {e}"),
    }
}
