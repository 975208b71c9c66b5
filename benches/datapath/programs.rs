//! The programs that are compared, filled with names.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use edns::datapath::{Datapath, Options, Program, Table};
use edns::zone::name::Name;
use edns::zone::node::{Answer, AnswerKind, Node, Verdict, ZoneId};
use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder};

/// The default of MaxRecords.
const MAX_RECORDS: usize = 262_144;

pub fn name(i: usize) -> String {
    format!("svc-{i}.ns-{}.svc.cluster.local", i % 100)
}

pub fn address(i: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + i as u32)
}

/// Compiles baseline.bpf.c as build.rs compiles the real program.
pub fn compile_baseline(dir: &Path) -> std::path::PathBuf {
    let out = dir.join("baseline.bpf.o");
    let status = Command::new(env!("BPF_CLANG"))
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Isrc/bpf", concat!("-I", env!("BPF_INCLUDE")), "-c"])
        .args(["benches/baseline.bpf.c".as_ref(), "-o".as_ref(), out.as_os_str()])
        .status()
        .expect("clang");
    assert!(status.success(), "baseline.bpf.c does not compile");
    out
}

/// The programs of baseline.bpf.c, with the names in the prototype's map.
pub fn load_baseline(file: &Path, names: usize) -> Object {
    let mut open = ObjectBuilder::default().open_file(file).expect("baseline");
    for mut map in open.maps_mut() {
        map.set_max_entries(names.max(1024) as u32 * 2).expect("size");
    }
    let object = open.load().expect("baseline loads");
    let map = object.maps().find(|m| m.name() == "names").expect("the map");
    for i in 0..names {
        let mut key = [0; 64];
        let name = Name::parse(&name(i)).expect("a name");
        key[..name.wire().len()].copy_from_slice(name.wire());
        let mut value = address(i).octets().to_vec();
        value.extend(30_u32.to_ne_bytes());
        map.update(&key, &value, MapFlags::ANY).expect("fits");
    }
    object
}

/// eDNS with this many names in its maps, and the times of loading and of filling.
pub fn load_edns(names: usize) -> (Datapath, Table, Duration, Duration) {
    let start = Instant::now();
    let options = Options {
        ext_btf: None,
        egress: false,
        max_records: names.max(MAX_RECORDS) as u32,
        programs: vec![Program::EthernetToPeer],
    };
    let (datapath, mut table) = Datapath::load(&options).expect("edns loads");
    let loaded = start.elapsed();
    let start = Instant::now();
    for i in 0..names {
        let mut bytes = vec![0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4];
        bytes.extend(address(i).octets());
        let answer = Answer { kind: AnswerKind::Answer, counts: [1, 0, 0], rotation: None, bytes: bytes.into() };
        let node = Node { types: vec![(1, Verdict::Answer(answer))], ..Node::pass(ZoneId::Static) };
        table.put(&Name::parse(&name(i)).expect("a name"), &node).expect("fits");
    }
    datapath.settings().set_any_server(1);
    (datapath, table, loaded, start.elapsed())
}

/// Runs `work` with heartbeats like the daemon's.
pub fn with_beat<T: Send>(datapath: &Datapath, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !worker.is_finished() {
            datapath.beat().expect("beat");
            std::thread::sleep(Duration::from_millis(50));
        }
        worker.join().expect("no panic")
    })
}

/// Attaches a program after those that are attached already.
pub fn attach(program: BorrowedFd<'_>, ifname: &str) -> OwnedFd {
    let ifindex = nix::net::if_::if_nametoindex(ifname).expect("the interface") as i32;
    // SAFETY: no options are passed.
    let link = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, libbpf_sys::BPF_TCX_INGRESS, std::ptr::null())
    };
    assert!(link >= 0, "tcx: {}", std::io::Error::from_raw_os_error(-link));
    // SAFETY: ours since just now; closing it detaches.
    unsafe { OwnedFd::from_raw_fd(link) }
}
