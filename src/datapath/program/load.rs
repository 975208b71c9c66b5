//! Loads the programs: sets their constants and map sizes, and explains errors.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{ErrorKind, MapCore as _, MapFlags, OpenObject, PrintLevel};

use super::counters::{self, Queries};
use super::error::{KERNEL_BTF, LoadError, explain, on_libbpf_print, other};
use super::ipvs;
use super::kernel::{CAN_READ_KERNEL, check_btf, check_kernel, tick};
use super::test_run::TestRun;
use super::variant::{Options, Program};
use crate::datapath::abi::{edns_mac, edns_server, octets_of};
use crate::datapath::mapped::Mapped;
use crate::datapath::settings::ProgramSettings;
use crate::datapath::skel::types::edns_step;
use crate::datapath::skel::{EdnsSkel, EdnsSkelBuilder, OpenEdnsSkel};
use crate::datapath::sys::{loopback_mtu, page_size};
use crate::datapath::table::{Table, map_lines};
use crate::interfaces::Accepts;

/// Interval of heartbeats.
pub const BEAT: Duration = Duration::from_millis(500);
/// Age of the last heartbeat above which programs pass every query: five intervals, so that a few late heartbeats stop no answers.
pub const BEAT_MAX: Duration = Duration::from_millis(2500);

/// The programs that a variant tail-calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// They are loaded with it.
    Load,
    /// Those of another variant serve it, too.
    Share,
}

/// The loaded programs and their maps.
pub struct Datapath {
    skel: EdnsSkel<'static>,
    options: Options,
    /// Whether programs can read the kernel's memory.
    reads_kernel: bool,
    settings: ProgramSettings,
    beat: TestRun,
    /// Loaded programs, indexed by [`Program`].
    programs: [OnceCell<OwnedFd>; Program::ALL.len()],
}

impl Datapath {
    /// Loads the programs of `options` and creates the maps. The maps are empty, and no program is attached.
    ///
    /// # Errors
    /// [`LoadError`]; each says what to do.
    pub fn load(options: &Options) -> Result<(Self, Table), LoadError> {
        Self::load_as(options, *CAN_READ_KERNEL)
    }

    /// Like [`Self::load`], but as on a kernel without bpf_probe_read_kernel (for tests).
    ///
    /// # Errors
    /// The errors of [`Self::load`].
    pub fn load_without_probe_read(options: &Options) -> Result<(Self, Table), LoadError> {
        Self::load_as(options, false)
    }

    fn load_as(options: &Options, reads_kernel: bool) -> Result<(Self, Table), LoadError> {
        check_kernel()?;
        libbpf_rs::set_print(Some((PrintLevel::Debug, on_libbpf_print)));
        check_btf(options.ext_btf.as_deref())?;

        // The skeleton borrows the object's memory. Both live until the process ends, so leaking a few bytes is harmless.
        let object = Box::leak(Box::new(MaybeUninit::uninit()));
        let first = options.programs.first().map(|program| (*program, Steps::Load));
        let mut open = open(object, options, reads_kernel, first)?;
        open.progs.edns_beat.set_autoload(true);
        let lines = map_lines(options.max_records as usize);
        open.maps.edns_index.set_max_entries(lines as u32).map_err(|e| other(&e))?;

        let skel = open.load().map_err(|e| explain(&e, options))?;
        let settings = settings(&skel)?;
        settings.set_egress(options.egress);
        settings.set_beat_max(BEAT_MAX, tick());
        settings.set_encloser_labels_min(None);

        let beat = TestRun::new(skel.progs.edns_beat.as_fd()).map_err(|e| other(&e))?;
        let datapath =
            Self { skel, options: options.clone(), reads_kernel, settings, beat, programs: Default::default() };
        datapath.check_offsets()?;
        if let Some((program, steps)) = first {
            datapath.keep(program, steps, &datapath.skel)?;
        }
        for program in &options.programs {
            datapath.program(*program)?;
        }
        let chunks = owned(datapath.skel.maps.edns_chunks.as_fd())?;
        let index = datapath.skel.maps.edns_index.as_fd();
        let table = Table::new(index, chunks, options.max_records as usize, datapath.settings())?;
        Ok((datapath, table))
    }

    /// The program of a variant. It is loaded on first use and shares all maps with the others.
    ///
    /// # Errors
    /// The errors of [`Self::load`].
    pub fn program(&self, program: Program) -> Result<BorrowedFd<'_>, LoadError> {
        let loaded = &self.programs[program as usize];
        if loaded.get().is_none() {
            let mut object = MaybeUninit::uninit();
            let steps = if self.has_steps(program) { Steps::Share } else { Steps::Load };
            let mut open = open(&mut object, &self.options, self.reads_kernel, Some((program, steps)))?;
            let (maps, shared) = (&mut open.maps, &self.skel.maps);
            // All maps except .rodata, which holds the constants of this variant.
            let reused = [
                maps.edns_index.reuse_fd(shared.edns_index.as_fd()),
                maps.edns_chunks.reuse_fd(shared.edns_chunks.as_fd()),
                maps.edns_servers.reuse_fd(shared.edns_servers.as_fd()),
                maps.edns_macs.reuse_fd(shared.edns_macs.as_fd()),
                maps.edns_stats.reuse_fd(shared.edns_stats.as_fd()),
                maps.edns_steps.reuse_fd(shared.edns_steps.as_fd()),
                maps.edns_scratch.reuse_fd(shared.edns_scratch.as_fd()),
                maps.edns_events.reuse_fd(shared.edns_events.as_fd()),
                maps.bss.reuse_fd(shared.bss.as_fd()),
            ];
            reused.into_iter().collect::<Result<(), _>>().map_err(|e| other(&e))?;
            let skel = open.load().map_err(|e| explain(&e, &self.options))?;
            self.keep(program, steps, &skel)?;
        }
        loaded.get().map(OwnedFd::as_fd).ok_or_else(|| LoadError::Other("the program was not loaded".into()))
    }

    /// Whether the programs that this one tail-calls were already loaded with another variant.
    fn has_steps(&self, program: Program) -> bool {
        let loaded = Program::ALL.into_iter().filter(|p| self.programs[*p as usize].get().is_some());
        loaded.map(Program::steps).any(|steps| steps == program.steps())
    }

    /// Keeps a program that `skel` has just loaded, and lets it tail-call those that were loaded with it.
    fn keep(&self, program: Program, steps: Steps, skel: &EdnsSkel<'_>) -> Result<(), LoadError> {
        if steps == Steps::Load {
            let [search, reply] = program.steps();
            self.set_step(search, skel.progs.edns_search.as_fd())?;
            self.set_step(reply, skel.progs.edns_reply.as_fd())?;
        }
        let _ = self.programs[program as usize].set(owned(skel.progs.edns_packet.as_fd())?);
        Ok(())
    }

    /// Stores a program in the slot for this tail call.
    fn set_step(&self, step: edns_step, program: BorrowedFd<'_>) -> Result<(), LoadError> {
        let fd = program.as_raw_fd().to_ne_bytes();
        self.skel.maps.edns_steps.update(&step.0.to_ne_bytes(), &fd, MapFlags::ANY).map_err(|e| other(&e))
    }

    /// The heartbeat program, which is always loaded.
    pub(in crate::datapath) fn heartbeat_program(&self) -> BorrowedFd<'_> {
        self.skel.progs.edns_beat.as_fd()
    }

    /// The settings of the running programs.
    #[must_use]
    pub fn settings(&self) -> ProgramSettings {
        self.settings.clone()
    }

    /// Sends a heartbeat to the running programs. Without one for [`BEAT_MAX`] they pass every query.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn beat(&self) -> io::Result<()> {
        if self.options.egress && !self.reads_kernel {
            self.settings.set_ipvs(ipvs::is_in_use());
        }
        self.beat.run(&BEAT_FRAME, &mut []).map(|_| ())
    }

    /// A handle that runs a program on packets of the caller. It behaves as on an interface: it checks the heartbeat and the
    /// server and counts the query, except [`Program::Probe`].
    ///
    /// # Errors
    /// If the program can't be loaded.
    pub fn test_run(&self, program: Program) -> Result<TestRun, LoadError> {
        TestRun::new(self.program(program)?).map_err(|e| other(&e))
    }

    /// Numbers of queries by outcome and IP version, and the number of events that were lost because the ring buffer was full.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn counters(&self) -> io::Result<(Queries, u64)> {
        counters::read(&self.skel.maps.edns_stats)
    }

    /// Numbers of queries by outcome and IP version.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn queries(&self) -> io::Result<Queries> {
        Ok(self.counters()?.0)
    }

    /// The file descriptor of the ring buffer of events, for [`QueryEvents`](super::QueryEvents).
    #[must_use]
    pub fn events(&self) -> BorrowedFd<'_> {
        self.skel.maps.edns_events.as_fd()
    }

    /// Sets the zones that are answered in queries to `server`: a bit 1 << [`ZoneId`](crate::zone::node::ZoneId) for each. 0
    /// removes the server.
    ///
    /// # Errors
    /// The error of the system call, also for more than [`SERVERS_MAX`](crate::datapath::SERVERS_MAX) servers.
    pub fn set_server(&self, server: IpAddr, zones: u8) -> io::Result<()> {
        let octets = match server {
            IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
            IpAddr::V6(a) => a.octets(),
        };
        let mut addr = [0; 4];
        for (word, octets) in addr.iter_mut().zip(octets.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*octets);
        }
        let key = edns_server { addr };
        let servers = &self.skel.maps.edns_servers;
        let result = if zones == 0 {
            match servers.delete(octets_of(&key)) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                r => r,
            }
        } else {
            servers.update(octets_of(&key), &[zones], MapFlags::ANY)
        };
        result.map_err(io::Error::other)
    }

    /// Sets which frames programs answer, by ifindex. On interfaces that are not listed they answer frames to the interface's own
    /// address.
    ///
    /// # Errors
    /// The error of the system call, also for more than 65,536 interfaces.
    pub fn set_accepted_macs(&self, ports: &BTreeMap<u32, Accepts>) -> io::Result<()> {
        let map = &self.skel.maps.edns_macs;
        for (ifindex, accepts) in ports {
            let mac = match accepts {
                Accepts::Own => continue,
                Accepts::OwnAnd([a, b, c, d, e, f]) => u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, 0, 0]),
                Accepts::Any => u64::MAX,
            };
            let update = map.update(&ifindex.to_ne_bytes(), octets_of(&edns_mac { mac }), MapFlags::ANY);
            update.map_err(io::Error::other)?;
        }
        let accepts_own = |ifindex: u32| ports.get(&ifindex).is_none_or(|accepts| *accepts == Accepts::Own);
        let old: Vec<Vec<u8>> = map.keys().collect();
        for key in old {
            if key.as_slice().try_into().is_ok_and(|key| accepts_own(u32::from_ne_bytes(key))) {
                map.delete(&key).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Checks the BTF: with a wrong one programs load, too, but read wrong fields. The heartbeat program returns lo's MTU,
    /// which is compared with the true one.
    fn check_offsets(&self) -> Result<(), LoadError> {
        if !self.reads_kernel {
            return Ok(()); // no program reads fields by BTF offsets
        }
        let (mtu, _) = self.beat.run(&BEAT_FRAME, &mut []).map_err(|e| other(&e))?;
        // A test run is on lo of this network namespace.
        let lo = loopback_mtu().map_err(|e| other(&e))?;
        if mtu == lo {
            return Ok(());
        }
        let file = self.options.ext_btf.as_deref().unwrap_or(Path::new(KERNEL_BTF));
        Err(LoadError::WrongBtf(file.display().to_string()))
    }
}

/// The settings, in a mapping of their own that may outlive the skeleton.
fn settings(skel: &EdnsSkel<'_>) -> Result<ProgramSettings, LoadError> {
    let bss = skel.maps.bss_data.as_ref().ok_or_else(|| LoadError::Other("no .bss".into()))?;
    let at = (&raw const bss.settings).addr() - std::ptr::from_ref::<_>(&**bss).addr();
    let mapped = Mapped::new(skel.maps.bss.as_fd(), page_size()).map_err(|e| other(&e))?;
    Ok(ProgramSettings::new(mapped, at))
}

/// Opens the object, set to load this program, and the programs that it tail-calls if they are not loaded yet.
fn open<'o>(
    object: &'o mut MaybeUninit<OpenObject>,
    options: &Options,
    reads_kernel: bool,
    program: Option<(Program, Steps)>,
) -> Result<OpenEdnsSkel<'o>, LoadError> {
    let mut builder = EdnsSkelBuilder::default();
    if let Some(path) = &options.ext_btf {
        builder.obj_builder.btf_custom_path(path).map_err(|e| other(&e))?;
    }
    let mut open = builder.open(object).map_err(|e| explain(&e, options))?;
    let rodata = open.maps.rodata_data.as_deref_mut().ok_or_else(|| LoadError::Other("no .rodata".into()))?;
    rodata.can_read_kernel = reads_kernel;
    if let Some((program, _)) = program {
        rodata.variant = program.variant();
    }
    let loads_steps = program.is_some_and(|(_, steps)| steps == Steps::Load);
    open.progs.edns_beat.set_autoload(false);
    open.progs.edns_packet.set_autoload(program.is_some());
    open.progs.edns_search.set_autoload(loads_steps);
    open.progs.edns_reply.set_autoload(loads_steps);
    Ok(open)
}

/// The frame of a heartbeat: a multicast frame, so that `pkt_type` is not 0. The kernel requires at least an IP header's length.
const BEAT_FRAME: [u8; 64] = {
    let mut frame = [0; 64];
    frame[0] = 1;
    frame
};

fn owned(fd: BorrowedFd<'_>) -> Result<OwnedFd, LoadError> {
    fd.try_clone_to_owned().map_err(|e| other(&e))
}
