//! The metrics page, in Prometheus' text format. It is made from [`StatsReply`], which `edns stats` shows, so the two agree.

mod process;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, Result, TextEncoder,
};

use crate::control::{StatsReply, SyncReply};

/// Bucket bounds in seconds, from the duration of a single local change to an intolerable delay.
const PROGRAMMING_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// A new histogram of seconds from the arrival of an API event until its names are in the maps.
///
/// # Panics
/// Never: name and buckets are valid.
#[must_use]
pub fn programming_duration() -> Histogram {
    let help = "Seconds from the arrival of an event of the Kubernetes API until its names are in the maps.";
    let opts = HistogramOpts::new("edns_sync_programming_duration_seconds", help).buckets(PROGRAMMING_BUCKETS.into());
    Histogram::with_opts(opts).expect("a valid name, and buckets in order")
}

/// The page of /metrics: the values of `stats`, and the histogram `programming`.
///
/// # Errors
/// If a metric has an invalid name or is registered twice.
pub fn page(stats: &StatsReply, programming: &Histogram) -> Result<String> {
    let page = Page(Registry::new());
    let queries = IntCounterVec::new(
        Opts::new("edns_queries_total", "DNS queries over UDP by outcome; pass_...: passed to the DNS server."),
        &["outcome", "family"],
    )?;
    for q in &stats.queries {
        queries.with_label_values(&[&q.outcome, &q.family]).inc_by(q.count);
    }
    page.add(queries)?;
    page.gauge("edns_records", "Names in the maps.", stats.records as f64)?;
    page.gauge("edns_records_capacity", "Names that the maps can hold (MaxRecords).", stats.max_records as f64)?;
    page.gauge(
        "edns_records_refused",
        "Names that pass because the maps have no place for them.",
        stats.refused_records as f64,
    )?;
    page.counter(
        "edns_index_rekeys_total",
        "How often the index got another hash key because names collided.",
        stats.rekeys,
    )?;
    let passed = Opts::new("edns_names_passed", "Names that pass because the maps have no place for them, by reason.");
    let passed_by = GaugeVec::new(passed, &["reason"])?;
    for p in &stats.names_passed {
        passed_by.with_label_values(&[&p.reason]).set(p.count as f64);
    }
    page.add(passed_by)?;
    page.gauge("edns_map_memory_bytes", "Kernel memory of the record maps.", stats.map_bytes as f64)?;
    page.gauge("edns_attached_interfaces", "Interfaces with the program.", stats.attached_interfaces.len() as f64)?;
    page.gauge(
        "edns_unattached_interfaces",
        "Interfaces that match Ifname and could not be attached.",
        stats.unattached.len() as f64,
    )?;
    page.gauge(
        "edns_interfaces_shadowed",
        "Interfaces on which another program runs before eDNS and may end the chain.",
        stats.interfaces.iter().filter(|i| !i.is_first).count() as f64,
    )?;
    page.counter("edns_attach_errors_total", "Failures to attach the program to an interface.", stats.attach_errors)?;
    page.counter("edns_reloads_total", "Reloads of config and static names that took effect.", stats.reloads)?;
    page.counter(
        "edns_reload_errors_total",
        "Reloads that failed; the previous configuration was kept.",
        stats.reload_errors,
    )?;
    page.gauge(
        "edns_last_reload_successful",
        "Whether the current content of the config and domain file is in effect.",
        flag(stats.reload_error.is_none() && stats.held_files.is_empty()),
    )?;
    page.gauge("edns_paused", "Whether all queries pass because of `edns pause`.", flag(stats.paused))?;
    page.gauge("edns_ready", "Whether the daemon is ready, as /readyz says.", flag(stats.not_ready.is_none()))?;
    if let Some(sync) = &stats.sync {
        page.sync(sync, programming)?;
    }
    let build = GaugeVec::new(Opts::new("edns_build_info", "Version of the daemon; always 1."), &["version"])?;
    build.with_label_values(&[&stats.version]).set(1.0);
    page.add(build)?;
    process::add(&page, stats.start_time_seconds)?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}

const fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

struct Page(Registry);

impl Page {
    fn add(&self, metric: impl Collector + 'static) -> Result<()> {
        self.0.register(Box::new(metric))
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<()> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.add(gauge)
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> Result<()> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.add(counter)
    }

    /// Adds the metrics of the view of the Kubernetes API.
    fn sync(&self, sync: &SyncReply, programming: &Histogram) -> Result<()> {
        self.gauge(
            "edns_sync_synced",
            "Whether the initial sync is done, so that the cluster zone is answered.",
            flag(sync.synced),
        )?;
        self.gauge(
            "edns_sync_current",
            "Whether the view of the cluster is current, so that negative answers are given.",
            flag(sync.current),
        )?;
        self.gauge(
            "edns_sync_expired",
            "Whether the view has been stale for longer than MaxStale, so that all names of the cluster pass.",
            flag(sync.expired),
        )?;
        let vec = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["kind"]);
        let counters = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["kind"]);
        let silent = vec(
            "edns_sync_silence_seconds",
            "Seconds since the last message of the API server; bookmarks come about once a minute.",
        )?;
        let broken = vec("edns_sync_broken", "Whether the list or watch of this kind is failing.")?;
        let errors = counters("edns_sync_errors_total", "Lists and watches that failed.")?;
        let lists =
            counters("edns_sync_lists_total", "Lists that were read completely; the first is the initial sync.")?;
        for kind in &sync.kinds {
            let label = &[kind.kind.as_str()];
            silent.with_label_values(label).set(kind.silent_seconds);
            broken.with_label_values(label).set(flag(kind.broken_seconds.is_some()));
            errors.with_label_values(label).inc_by(kind.errors);
            lists.with_label_values(label).inc_by(kind.lists);
        }
        self.add(silent)?;
        self.add(broken)?;
        self.add(errors)?;
        self.add(lists)?;
        self.add(programming.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{InterfaceReply, KindReply, OutcomeCount, PassedReply};

    fn stats() -> StatsReply {
        StatsReply {
            queries: vec![OutcomeCount { outcome: "answered".into(), family: "ipv6".into(), count: 7 }],
            records: 6,
            max_records: 9,
            refused_records: 2,
            rekeys: 8,
            holders: Vec::new(),
            names_passed: vec![PassedReply { reason: "full".into(), count: 2 }],
            map_bytes: 4096,
            attached_interfaces: vec!["veth0".into()],
            interfaces: [true, false]
                .map(|is_first| InterfaceReply { name: "veth0".into(), is_first, in_front: Vec::new() })
                .into(),
            unattached: vec!["veth1: no".into()],
            attach_errors: 3,
            reloads: 4,
            reload_errors: 5,
            reload_error: Some("config.yaml".into()),
            held_files: Vec::new(),
            sync: None,
            not_ready: None,
            version: "0.1.0".into(),
            pid: 1,
            start_time_seconds: 1_700_000_000,
            uptime_seconds: 1,
            events_lost: 0,
            paused: true,
        }
    }

    #[test]
    fn a_page_has_the_values_of_the_counters() {
        let text = page(&stats(), &programming_duration()).unwrap();
        for line in [
            "edns_queries_total{family=\"ipv6\",outcome=\"answered\"} 7",
            "# TYPE edns_queries_total counter",
            "edns_records 6",
            "edns_records_capacity 9",
            "edns_records_refused 2",
            "edns_index_rekeys_total 8",
            "edns_names_passed{reason=\"full\"} 2",
            "edns_attached_interfaces 1",
            "edns_unattached_interfaces 1",
            "edns_interfaces_shadowed 1",
            "edns_attach_errors_total 3",
            "edns_reloads_total 4",
            "edns_reload_errors_total 5",
            "edns_last_reload_successful 0",
            "edns_paused 1",
            "edns_ready 1",
            "edns_build_info{version=\"0.1.0\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(!text.contains("edns_sync_"), "no cluster: {text}");
    }

    #[test]
    fn a_cluster_has_metrics_for_each_kind() {
        let kind = |kind: &str, broken| KindReply {
            kind: kind.into(),
            silent_seconds: 0.5,
            broken_seconds: broken,
            errors: 2,
            lists: 1,
        };
        let kinds = vec![kind("services", None), kind("namespaces", Some(3.0))];
        let sync = Some(SyncReply {
            synced: true,
            current: false,
            stale_seconds: Some(90.0),
            max_stale_seconds: Some(60.0),
            expired: true,
            kinds,
        });
        let programming = programming_duration();
        programming.observe(0.002);
        let text = page(&StatsReply { sync, ..stats() }, &programming).unwrap();
        for line in [
            "edns_sync_synced 1",
            "edns_sync_current 0",
            "edns_sync_expired 1",
            "edns_sync_silence_seconds{kind=\"services\"} 0.5",
            "edns_sync_broken{kind=\"services\"} 0",
            "edns_sync_broken{kind=\"namespaces\"} 1",
            "edns_sync_errors_total{kind=\"services\"} 2",
            "edns_sync_lists_total{kind=\"services\"} 1",
            "edns_sync_programming_duration_seconds_bucket{le=\"0.001\"} 0",
            "edns_sync_programming_duration_seconds_bucket{le=\"0.0025\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
}
