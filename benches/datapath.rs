//! What an answer costs in the kernel: run time of the program under real traffic (dnsperf over a veth pair, names drawn at
//! random), against the programs of baseline.bpf.c in the same run, in turn. Ratios count: machines are noisy.
//!
//! `cargo bench --bench datapath -- [seconds a measurement] [rounds]`; root.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use edns::datapath::{Datapath, Options, Table};
use edns::zone::name::Name;
use edns::zone::node::{Answer, Kind, Node, Verdict, ZoneId};
use libbpf_rs::{MapCore, MapFlags, ObjectBuilder};

const POD: &str = "edns-bench-pod";
const HOST: &str = "edns-bench-host";
const NAMES: [usize; 3] = [10, 10_000, 1_000_000];

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let seconds: u64 = args.next().map_or(3, |a| a.parse().expect("seconds"));
    let rounds: usize = args.next().map_or(5, |a| a.parse().expect("rounds"));
    let _lab = Lab::new();
    enter(HOST);
    let ifindex = nix::net::if_::if_nametoindex("bench-h").expect("the veth") as i32;
    let _stats = enable_stats();
    let dir = std::env::temp_dir().join(format!("edns-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a scratch folder");

    let baseline = compile(&dir);
    println!("| names | program | ns a query | above empty | by prototype | queries/s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for names in NAMES {
        let queries = dir.join(format!("{names}.txt"));
        std::fs::write(&queries, query_file(names)).expect("the queries");
        let mut open = ObjectBuilder::default().open_file(&baseline).expect("baseline");
        for mut map in open.maps_mut() {
            map.set_max_entries(names.max(1024) as u32 * 2).expect("size");
        }
        let object = open.load().expect("baseline loads");
        let map = object.maps().find(|m| m.name() == "names").expect("the map");
        for i in 0..names {
            let mut key = [0; 64];
            let name = name(i);
            key[..name.wire().len()].copy_from_slice(name.wire());
            let mut value = u32::from(address(i)).to_be_bytes().to_vec();
            value.extend(30_u32.to_ne_bytes());
            map.update(&key, &value, MapFlags::ANY).expect("fits");
        }
        let t0 = Instant::now();
        let options = Options { ext_btf: None, egress: false, max_records: names.max(262_144) as u32 };
        let (datapath, mut table) = Datapath::load(&options).expect("edns loads");
        let loaded = t0.elapsed();
        let t0 = Instant::now();
        fill(&mut table, names);
        let filled = t0.elapsed();
        datapath.settings().set_any_server(1);

        let baseline_programs: Vec<_> = object.progs().collect();
        let mut programs: Vec<(String, BorrowedFd<'_>)> =
            baseline_programs.iter().map(|p| (p.name().to_string_lossy().into_owned(), p.as_fd())).collect();
        programs.push(("edns".into(), datapath.programs().eth));
        programs.push(("edns, to the peer".into(), datapath.programs().eth_peer));

        let mut ns: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut qps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for _ in 0..rounds {
            for (name, fd) in &programs {
                let _link = attach(*fd, ifindex);
                let before = run_time(*fd);
                let rate = dnsperf(&queries, seconds, name == "empty" || name == "floor", || {
                    datapath.beat().expect("beat");
                });
                let after = run_time(*fd);
                ns.entry(name).or_default().push((after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64);
                qps.entry(name).or_default().push(rate);
            }
        }
        let ns: BTreeMap<&str, f64> = ns.into_iter().map(|(n, v)| (n, median(v))).collect();
        let above = |name: &str| ns[name] - ns["empty"];
        for (name, _) in &programs {
            let name = name.as_str();
            println!(
                "| {names} | {name} | {:.0} | {:.0} | {:.2} | {:.0} |",
                ns[name],
                above(name),
                above(name) / above("prototype"),
                median(qps[name].clone())
            );
        }
        println!(
            "| {names} | loading the program {:.0} ms, filling {:.0} ms, {:.0} octets a name | | | | |",
            loaded.as_secs_f64() * 1e3,
            filled.as_secs_f64() * 1e3,
            table.memory() as f64 / names as f64
        );
    }
    let _ = std::fs::remove_dir_all(dir);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn name(i: usize) -> Name {
    Name::parse(&format!("svc-{i}.ns-{}.svc.cluster.local", i % 100)).expect("a name")
}

fn address(i: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + i as u32)
}

fn fill(table: &mut Table, names: usize) {
    for i in 0..names {
        let mut bytes = vec![0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4];
        bytes.extend(address(i).octets());
        let answer = Answer { kind: Kind::Answer, counts: [1, 0, 0], rotation: None, bytes: bytes.into() };
        let node = Node { types: vec![(1, Verdict::Answer(answer))], ..Node::pass(ZoneId::Static) };
        table.put(&name(i), &node).expect("fits");
    }
}

/// As many questions as there are names, at least 100,000, in random order.
fn query_file(names: usize) -> String {
    let mut text = String::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..names.max(100_000) {
        // xorshift64: repeatable, and good enough to leave no order that a cache could use.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let i = state as usize % names;
        writeln!(text, "svc-{i}.ns-{}.svc.cluster.local A", i % 100).expect("memory");
    }
    text
}

/// Queries a second that were answered. Where none is, the client stops after its time-out, so its limit is low.
fn dnsperf(queries: &PathBuf, seconds: u64, unanswered: bool, mut beat: impl FnMut()) -> f64 {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{POD}")).args(["dnsperf", "-s", "10.77.0.1", "-c8", "-q200", "-d"]);
    command.arg(queries).args(["-l", &seconds.to_string()]);
    if unanswered {
        // Nothing comes back: as fast as the time-out lets go.
        command.args(["-t", "0.01"]);
    }
    beat();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("dnsperf");
    let waiter = std::thread::spawn(move || child.wait_with_output());
    while !waiter.is_finished() {
        beat();
        std::thread::sleep(Duration::from_millis(200));
    }
    let output = waiter.join().expect("thread").expect("dnsperf");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|l| l.trim().strip_prefix("Queries per second:"))
        .map_or(0.0, |n| n.trim().parse().unwrap_or(0.0))
}

fn compile(dir: &std::path::Path) -> PathBuf {
    let out = dir.join("baseline.bpf.o");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".into());
    let headers = std::env::var("EDNS_BPF_HEADERS").expect("EDNS_BPF_HEADERS: the folder that holds bpf/bpf_helpers.h");
    let status = Command::new(clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Isrc/bpf", &format!("-I{headers}"), "-c"])
        .arg("benches/baseline.bpf.c")
        .arg("-o")
        .arg(&out)
        .status()
        .expect("clang");
    assert!(status.success());
    out
}

/// Counts run times of all programs while the file descriptor is open.
fn enable_stats() -> OwnedFd {
    // SAFETY: no memory is passed.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    assert!(fd >= 0, "bpf_enable_stats");
    // SAFETY: ours since just now.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Nanoseconds and runs so far.
fn run_time(fd: BorrowedFd<'_>) -> (u64, u64) {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info lives through the call and has the given size.
    let ret = unsafe { libbpf_sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &raw mut len) };
    assert_eq!(ret, 0, "bpf_obj_get_info_by_fd");
    (info.run_time_ns, info.run_cnt)
}

fn attach(fd: BorrowedFd<'_>, ifindex: i32) -> OwnedFd {
    // SAFETY: no options are passed.
    let link =
        unsafe { libbpf_sys::bpf_link_create(fd.as_raw_fd(), ifindex, libbpf_sys::BPF_TCX_INGRESS, std::ptr::null()) };
    assert!(link >= 0, "tcx: {}", std::io::Error::from_raw_os_error(-link));
    // SAFETY: ours since just now; closing it detaches.
    unsafe { OwnedFd::from_raw_fd(link) }
}

fn enter(netns: &str) {
    let file = std::fs::File::open(format!("/run/netns/{netns}")).expect("the namespace");
    nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
}

/// Two network namespaces and a veth pair, removed at the end.
struct Lab;

impl Lab {
    fn new() -> Self {
        drop(Self);
        for command in [
            format!("netns add {POD}"),
            format!("netns add {HOST}"),
            format!("-n {HOST} link add bench-h type veth peer name bench-p netns {POD}"),
            format!("-n {HOST} addr add 10.77.0.1/24 dev bench-h"),
            format!("-n {POD} addr add 10.77.0.2/24 dev bench-p"),
            format!("-n {HOST} link set bench-h up"),
            format!("-n {POD} link set bench-p up"),
        ] {
            let status = Command::new("ip").args(command.split(' ')).status().expect("ip");
            assert!(status.success(), "ip {command}");
        }
        Self
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for netns in [POD, HOST] {
            let _ = Command::new("ip").args(["netns", "del", netns]).stderr(Stdio::null()).status();
        }
    }
}
