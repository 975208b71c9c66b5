//! dnsperf in a pod, and the processor time of the machine.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::contenders::Contender;
use crate::lab::Lab;

/// The result of a run.
#[derive(Clone, Copy)]
pub struct Run {
    pub per_second: f64,
    /// The share of the sent queries that was lost.
    pub lost: f64,
}

/// Latency in microseconds: mean, median, 99th and 99.9th percentile.
pub type Latency = [f64; 4];

fn dnsperf(lab: &Lab, to: &Contender, seconds: u64) -> Command {
    let mut command = lab.command(to.client, "dnsperf");
    command.args(["-s", to.address, "-d", "questions", "-c8", "-q200", "-l", &seconds.to_string()]);
    command.current_dir(&lab.dir).stderr(Stdio::null());
    command
}

/// Sends queries as fast as they are answered, or at a rate.
pub fn run(lab: &Lab, to: &Contender, seconds: u64, rate: Option<u32>) -> Run {
    let mut command = dnsperf(lab, to, seconds);
    if let Some(rate) = rate {
        command.args(["-Q", &rate.to_string()]);
    }
    let output = command.output().expect("dnsperf");
    report(to, &String::from_utf8_lossy(&output.stdout))
}

fn report(to: &Contender, text: &str) -> Run {
    let field = |key: &str| text.lines().find_map(|l| l.trim().strip_prefix(key)).map(str::trim);
    let number = |key| field(key).and_then(|f| f.split(' ').next()?.parse::<f64>().ok());
    let numbers = [number("Queries per second:"), number("Queries completed:"), number("Queries lost:")];
    let [Some(per_second), Some(answers), Some(lost)] = numbers else { panic!("{}: dnsperf: {text}", to.name) };
    let codes = field("Response codes:").unwrap_or_default();
    let right = codes.split(", ").all(|code| code.starts_with("NOERROR ") || code.starts_with("NXDOMAIN "));
    assert!(right && answers > 0.0, "{}: {text}", to.name);
    Run { per_second, lost: lost / (answers + lost) }
}

/// Sends queries at a steady rate and records the latency of each.
pub fn latency(lab: &Lab, to: &Contender, seconds: u64, rate: u32) -> (Run, Latency) {
    let log = lab.path("latency");
    let status = dnsperf(lab, to, seconds)
        .args(["-v", "-Q", &rate.to_string()])
        .stdout(File::create(&log).expect("a file"))
        .status()
        .expect("dnsperf");
    assert!(status.success(), "{}: dnsperf failed", to.name);
    // One line "> NOERROR name A 0.000123" per query, then the report.
    let (mut times, mut rest) = (Vec::new(), String::new());
    for line in BufReader::new(File::open(&log).expect("the file")).lines().map_while(Result::ok) {
        match line.strip_prefix("> ") {
            Some(reply) => times.extend(reply.rsplit(' ').next().and_then(|t| t.parse::<f64>().ok())),
            None => rest += &(line + "\n"),
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |of_1000: usize| times[(times.len() * of_1000 / 1000).min(times.len() - 1)] * 1e6;
    let mean = times.iter().sum::<f64>() / times.len() as f64 * 1e6;
    (report(to, &rest), [mean, at(500), at(990), at(999)])
}

/// Processor time of a run.
#[derive(Clone, Copy)]
pub struct Busy {
    /// Busy processors on average.
    pub cores: f64,
    /// Processors busy with the client's own code, without system calls.
    pub client: f64,
}

/// Measures the processor time of the whole machine while `work` runs. It is computed from the idle time, because ticks miss
/// short runs; stolen time counts as idle.
pub fn busy<T>(work: impl FnOnce() -> T) -> (Busy, T) {
    let (start, idle, client) = (Instant::now(), idle(), children());
    let result = work();
    let elapsed = start.elapsed().as_secs_f64();
    let cores = std::thread::available_parallelism().expect("processors").get() as f64;
    let cores = cores - (self::idle() - idle) / elapsed;
    (Busy { cores, client: (children() - client).as_secs_f64() / elapsed }, result)
}

/// Idle seconds of all processors.
fn idle() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let fields: Vec<f64> =
        stat.lines().next().unwrap_or_default().split_whitespace().filter_map(|f| f.parse().ok()).collect();
    // Fields: user nice system idle iowait irq softirq steal, in hundredths of a second.
    (fields[3] + fields[4] + fields[7]) / 100.0
}

/// User time of the finished child processes of this program.
fn children() -> Duration {
    let time = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage").user_time();
    Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64)
}
