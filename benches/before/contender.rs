//! One version of the daemon in a lab of its own.

use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::lab::{Daemon, Lab, PATIENCE, run};
use crate::load::{self, Load, Pages};
use crate::run_time::run_time;

pub struct Contender {
    program: PathBuf,
    /// While the daemon runs: the daemon, and the program on its hook.
    daemon: Option<(Daemon, OwnedFd)>,
    lab: Lab,
}

/// The cost of a start.
pub struct Start {
    /// Milliseconds until the log line `ready`.
    pub ready: f64,
    /// Milliseconds of processor time until then.
    pub cpu: f64,
    /// Resident MiB of the process a moment later, including mapped maps.
    pub resident: f64,
    /// MiB of the maps.
    pub maps: f64,
}

impl Contender {
    pub fn new(program: &Path, pages: &Pages) -> Self {
        let lab = Lab::new();
        load::install(&lab, pages);
        Self { program: program.to_owned(), daemon: None, lab }
    }

    pub fn start(&mut self, load: &Load) -> Start {
        let begun = Instant::now();
        let program = self.program.to_str().expect("a path in UTF-8");
        let daemon = self.lab.spawn_program(program, "host", load.config, &[]);
        let ready = loop {
            let log = daemon.log();
            if log.lines().any(|l| l.ends_with(" ready")) {
                break begun.elapsed();
            }
            assert!(begun.elapsed().as_secs() < PATIENCE, "{program} is not ready: {log}");
            sleep(Duration::from_millis(1));
        };
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(daemon.pid() as i32)).expect("it runs");
        let cpu = Duration::from(clock.now().expect("it runs"));
        // The daemon trims its heap after the log line.
        sleep(Duration::from_millis(300));
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok());
        let config = self.lab.path(load.config);
        let stats = run(Command::new(&self.program).args(["stats", "--json", "--config"]).arg(config)).stdout;
        let stats: serde_json::Value = serde_json::from_slice(&stats).expect("JSON");
        self.daemon = Some((daemon, self.attached()));
        let mebibytes = f64::from(1 << 20);
        Start {
            ready: ready.as_secs_f64() * 1e3,
            cpu: cpu.as_secs_f64() * 1e3,
            resident: resident.map(|kib: f64| kib * 1024.0 / mebibytes).expect("KiB"),
            maps: stats["map_bytes"].as_f64().expect("octets") / mebibytes,
        }
    }

    /// The program that is attached to the interface.
    fn attached(&self) -> OwnedFd {
        let (ret, id) = self.lab.run_in("host", || {
            let ifindex = if_nametoindex("veth0").expect("the interface") as i32;
            let mut id = 0;
            let mut query = libbpf_sys::bpf_prog_query_opts {
                sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
                prog_ids: &raw mut id,
                ..Default::default()
            };
            query.__bindgen_anon_1.prog_cnt = 1;
            // SAFETY: the options live through the call, with room for one id.
            (unsafe { libbpf_sys::bpf_prog_query_opts(ifindex, libbpf_sys::BPF_TCX_INGRESS, &raw mut query) }, id)
        });
        assert!(ret == 0 && id > 0, "no program on tcx, which needs Linux 6.6: {ret}");
        // SAFETY: no memory is passed.
        let fd = unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) };
        assert!(fd >= 0, "bpf_prog_get_fd_by_id: {}", std::io::Error::from_raw_os_error(-fd));
        // SAFETY: nothing else owns the new file descriptor.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// Nanoseconds that the program takes for a packet of this traffic.
    pub fn cost(&self, traffic: impl FnOnce(&Lab)) -> f64 {
        let (_, program) = self.daemon.as_ref().expect("it runs");
        let before = run_time(program.as_fd());
        traffic(&self.lab);
        let after = run_time(program.as_fd());
        assert!(after.1 > before.1, "the program never ran");
        (after.0 - before.0) as f64 / (after.1 - before.1) as f64
    }

    pub fn stop(&mut self) {
        let (mut daemon, _) = self.daemon.take().expect("it runs");
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    }
}
