//! The maps of a loaded program.

use std::collections::HashMap;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// The maps of a program, by name.
pub fn maps_of(program: BorrowedFd<'_>) -> HashMap<String, OwnedFd> {
    let mut ids = [0_u32; 32];
    // SAFETY: all zero is a valid bpf_prog_info, and a valid bpf_map_info below: integers.
    let mut info: libbpf_sys::bpf_prog_info = unsafe { std::mem::zeroed() };
    info.nr_map_ids = ids.len() as u32;
    info.map_ids = ids.as_mut_ptr() as u64;
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info, its length and the ids live through the call.
    let ret = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len) };
    assert_eq!(ret, 0, "a program's maps");
    let maps = ids[..info.nr_map_ids as usize].iter().map(|id| {
        // SAFETY: no memory is passed; nothing else owns the new file descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(libbpf_sys::bpf_map_get_fd_by_id(*id)) };
        // SAFETY: as above.
        let mut info: libbpf_sys::bpf_map_info = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&info) as u32;
        // SAFETY: info and its length live through the call.
        let ret = unsafe { libbpf_sys::bpf_map_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut len) };
        assert_eq!(ret, 0, "a map");
        let name: String = info.name.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect();
        (name, fd)
    });
    maps.collect()
}

/// The memory for searches of all CPUs.
pub fn read_scratch(map: &OwnedFd) -> Vec<u8> {
    // Much more than the memory of one CPU.
    let mut value = vec![0; libbpf_rs::num_possible_cpus().expect("CPUs") * 8192];
    // SAFETY: key and value live through the call, and the value is larger than the map's.
    let ret = unsafe {
        libbpf_sys::bpf_map_lookup_elem(map.as_raw_fd(), (&raw const SLOT).cast(), value.as_mut_ptr().cast())
    };
    assert_eq!(ret, 0, "edns_scratch");
    value
}

pub fn write_scratch(map: &OwnedFd, value: &[u8]) {
    // SAFETY: key and value live through the call.
    let ret =
        unsafe { libbpf_sys::bpf_map_update_elem(map.as_raw_fd(), (&raw const SLOT).cast(), value.as_ptr().cast(), 0) };
    assert_eq!(ret, 0, "edns_scratch");
}

/// The element for packets that came by an interface.
static SLOT: u32 = 0;
