//! Safe functions for system calls that libbpf-rs lacks. The other unsafe code of `datapath` accesses memory that is shared with
//! programs: `mapped`, `settings`, `program::events`, `abi` and `table`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libbpf_sys::{bpf_tc_hook, bpf_tc_opts};

/// The result of a libbpf function, which returns a negative errno on errors.
fn checked(ret: i32) -> io::Result<i32> {
    if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(ret) }
}

/// The result of a libbpf function that returns a new file descriptor, or a negative errno.
///
/// # Safety
/// The caller owns the file descriptor.
unsafe fn owned(ret: i32) -> io::Result<OwnedFd> {
    // SAFETY: as promised by the caller.
    checked(ret).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes of a page.
pub(super) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// The MTU of lo in this network namespace, in bytes.
pub(super) fn loopback_mtu() -> io::Result<u32> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zero is a valid ifreq: integers and octets.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // SAFETY: the kernel reads and writes one ifreq, which lives through the call.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    nix::errno::Errno::result(ret)?;
    // SAFETY: SIOCGIFMTU fills this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}

/// Creates an array map with one element and BPF_F_MMAPABLE. `value_size` is in bytes.
pub(super) fn map_create(name: &CStr, value_size: u32) -> io::Result<OwnedFd> {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        map_flags: libbpf_sys::BPF_F_MMAPABLE,
        ..Default::default()
    };
    let (kind, key_size) = (libbpf_sys::BPF_MAP_TYPE_ARRAY, size_of::<u32>() as u32);
    // SAFETY: name and opts live through the call, whose file descriptor is ours.
    unsafe { owned(libbpf_sys::bpf_map_create(kind, name.as_ptr(), key_size, value_size, 1, &raw const opts)) }
}

/// Stores a map in an array of maps. Returns after all programs that ran before have ended (`maybe_wait_bpf_programs` in the
/// kernel).
pub(super) fn map_of_maps_update(outer: BorrowedFd<'_>, key: u32, map: BorrowedFd<'_>) -> io::Result<()> {
    let value = map.as_raw_fd();
    let (key, value) = ((&raw const key).cast(), (&raw const value).cast());
    // SAFETY: key and value live through the call and have the sizes that an array of maps has.
    let ret = unsafe { libbpf_sys::bpf_map_update_elem(outer.as_raw_fd(), key, value, libbpf_sys::BPF_ANY.into()) };
    checked(ret).map(drop)
}

/// Removes a map from an array of maps. Returns after all programs that ran before have ended.
pub(super) fn map_of_maps_delete(outer: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    // SAFETY: the key lives through the call and has the size that an array of maps has.
    checked(unsafe { libbpf_sys::bpf_map_delete_elem(outer.as_raw_fd(), (&raw const key).cast()) }).map(drop)
}

/// The kernel's ID of a program.
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info lives through the call and has the size given.
    checked(unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len) })?;
    Ok(info.id)
}

/// Runs a program on a frame (BPF_PROG_TEST_RUN). Returns its verdict and the length in bytes of the resulting packet, which is
/// written to `out` unless `out` is empty.
pub(super) fn program_test_run(program: BorrowedFd<'_>, frame: &[u8], out: &mut [u8]) -> io::Result<(u32, usize)> {
    let mut opts = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        data_out: if out.is_empty() { std::ptr::null_mut() } else { out.as_mut_ptr().cast() },
        data_size_out: out.len() as u32,
        ..Default::default()
    };
    // SAFETY: both buffers live through the call and have the sizes given.
    checked(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) })?;
    Ok((opts.retval, opts.data_size_out as usize))
}

/// The IDs of the programs on an interface's hook in the order in which they run. More than `max` are an error.
pub(super) fn programs_on(ifindex: u32, attach_type: u32, max: usize) -> io::Result<Vec<u32>> {
    let mut ids = vec![0; max];
    let mut opts = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    opts.__bindgen_anon_1.prog_cnt = max as u32;
    // SAFETY: opts, and what it refers to, live through the call, and have the sizes given.
    checked(unsafe { libbpf_sys::bpf_prog_query_opts(ifindex as i32, attach_type, &raw mut opts) })?;
    // SAFETY: filled by the call.
    ids.truncate(unsafe { opts.__bindgen_anon_1.prog_cnt } as usize);
    Ok(ids)
}

/// Attaches a program to an interface's hook by a BPF link. Closing the returned file descriptor detaches it.
pub(super) fn link_create(program: BorrowedFd<'_>, ifindex: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags,
        ..Default::default()
    };
    // SAFETY: opts lives through the call, whose file descriptor is ours.
    unsafe { owned(libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, attach_type, &raw const opts)) }
}

/// Replaces the program of a BPF link atomically.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no options are passed.
    checked(unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) }).map(drop)
}

/// The ifindex of a tcx link's interface; 0 if the interface no longer exists.
pub(super) fn tcx_link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = libbpf_sys::bpf_link_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info lives through the call and has the size given.
    checked(unsafe { libbpf_sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut len) })?;
    // SAFETY: for a tcx link the kernel fills this member.
    Ok(unsafe { info.__bindgen_anon_1.tcx.ifindex })
}

/// Creates the clsact qdisc of an interface.
pub(super) fn tc_hook_create(hook: &mut bpf_tc_hook) -> io::Result<()> {
    // SAFETY: the hook lives through the call.
    checked(unsafe { libbpf_sys::bpf_tc_hook_create(hook) }).map(drop)
}

/// Attaches a program by a tc filter.
pub(super) fn tc_attach(hook: &bpf_tc_hook, opts: &mut bpf_tc_opts) -> io::Result<()> {
    // SAFETY: hook and opts live through the call.
    checked(unsafe { libbpf_sys::bpf_tc_attach(hook, opts) }).map(drop)
}
