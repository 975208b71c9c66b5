//! Programs before and after eDNS' program in a chain; see witness.bpf.c.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::sync::LazyLock;

use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder};

const FRAME_MAX: usize = 4096;

/// Metadata of a packet (skb fields).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Metadata {
    /// Time of arrival or of transmission, as the kernel has it.
    pub tstamp: u64,
    pub cb: [u32; 5],
    pub mark: u32,
    pub priority: u32,
    pub tc_index: u32,
    pub tc_classid: u32,
    pub queue_mapping: u32,
    pub hash: u32,
    pub pkt_type: u32,
    pub gso_size: u32,
    pub vlan_tci: u32,
}

/// A packet as the program after eDNS' saw it.
pub struct Seen {
    /// Packets so far.
    pub count: u64,
    pub metadata: Metadata,
    pub octets: Vec<u8>,
}

/// The two programs. One packet at a time may be between them.
pub struct Witness(Object);

static OBJECT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let out = std::env::temp_dir().join(format!("edns-witness-{}.o", std::process::id()));
    let status = Command::new(env!("BPF_CLANG"))
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"])
        .args([concat!("-I", env!("CARGO_MANIFEST_DIR"), "/src/bpf"), concat!("-I", env!("BPF_INCLUDE")), "-c"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/witness.bpf.c"))
        .arg("-o")
        .arg(&out)
        .status()
        .expect("clang");
    assert!(status.success(), "witness.bpf.c does not compile");
    let object = std::fs::read(&out).expect("what clang wrote");
    let _ = std::fs::remove_file(out);
    object
});

impl Witness {
    /// The program after eDNS' sends what it saw out by this interface; without one it returns "next".
    pub fn new(out: Option<i32>) -> Self {
        let mut open = ObjectBuilder::default().open_memory(&OBJECT).expect("witness.bpf.o");
        let mut rodata = open.maps_mut().find(|m| m.name().to_string_lossy().ends_with("rodata")).expect(".rodata");
        let value = rodata.initial_value_mut().expect(".rodata");
        value[..4].copy_from_slice(&out.unwrap_or(0).to_ne_bytes());
        Self(open.load().unwrap_or_else(|e| panic!("witness.bpf.o: {e}")))
    }

    /// The program before eDNS': gives each packet random metadata.
    pub fn front(&self) -> OwnedFd {
        self.program("front")
    }

    /// The program after eDNS': records packets.
    pub fn behind(&self) -> OwnedFd {
        self.program("behind")
    }

    fn program(&self, name: &str) -> OwnedFd {
        let program = self.0.progs().find(|p| p.name() == name).expect("a program");
        program.as_fd().try_clone_to_owned().expect("a file descriptor")
    }

    fn map(&self, name: &str) -> Vec<u8> {
        let map = self.0.maps().find(|m| m.name() == name).expect("a map");
        map.lookup(&[0; 4], MapFlags::ANY).expect("a map of one").expect("a map of one")
    }

    /// The metadata that the last packet got.
    pub fn given(&self) -> Metadata {
        metadata(&self.map("given"))
    }

    /// The last packet that reached the program after eDNS'.
    pub fn seen(&self) -> Seen {
        let value = self.map("seen");
        let at = 8 + size_of::<Metadata>();
        let len = word(&value, at) as usize;
        assert!(len < FRAME_MAX, "a frame of {len} octets");
        Seen {
            count: u64::from_ne_bytes(value[..8].try_into().expect("8 octets")),
            metadata: metadata(&value[8..]),
            octets: value[at + 8..at + 8 + len].to_vec(),
        }
    }
}

fn word(value: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(value[at..at + 4].try_into().expect("4 octets"))
}

fn metadata(value: &[u8]) -> Metadata {
    let octets = &value[..size_of::<Metadata>()];
    // SAFETY: the slice has the size of a `Metadata`, whose fields are integers.
    unsafe { octets.as_ptr().cast::<Metadata>().read_unaligned() }
}
