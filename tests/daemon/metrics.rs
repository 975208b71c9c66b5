//! /metrics, /healthz and /readyz, and their use by Prometheus and Grafana.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::{Lab, SERVER, until};

const CONFIG: &str = "Ifname: veth0\nNetworkDirection: Ingress\n";

fn lab_with(config: &str) -> Lab {
    let lab = Lab::new();
    lab.write("config.yaml", config);
    lab
}

/// Status and body of a response.
fn get(lab: &Lab, url: &str) -> Result<(String, String), String> {
    let output = lab
        .command("host", "curl")
        .args(["-sg", "--max-time", "3", "-w", "\n%{http_code}", &format!("http://{url}")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    if status == "000" { Err(format!("{url}: no reply")) } else { Ok((status.into(), body.into())) }
}

fn metrics(lab: &Lab, addr: &str) -> String {
    until("a page", || match get(lab, &format!("{addr}/metrics")) {
        Ok((status, body)) if status == "200" => Ok(body),
        other => Err(format!("{other:?}")),
    })
}

/// Runs promtool on a file; it has to succeed.
fn promtool(lab: &Lab, args: &str) {
    lab.sh("host", &format!("promtool {args} 2>&1 || {{ promtool {args} >&2; exit 1; }}"));
}

fn repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn a_page_is_valid_for_prometheus_and_has_the_values_of_the_counters() {
    let lab = lab_with(&format!("{CONFIG}MetricsAddr: 127.0.0.1:9153\n"));
    let _daemon = lab.daemon();
    let page = metrics(&lab, "127.0.0.1:9153");
    // All counters exist from the first page on, so that rates are right.
    assert_eq!(page.matches("\nedns_queries_total{").count(), 2 * edns::datapath::OUTCOMES.len(), "{page}");
    lab.dig(&format!("@{SERVER} apis.example.org"));
    lab.dig("@fd77::1 nothing.example.org");
    let page = metrics(&lab, "127.0.0.1:9153");
    let build = format!("edns_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    for line in [
        "edns_queries_total{family=\"ipv4\",outcome=\"answered\"} 1",
        "edns_queries_total{family=\"ipv6\",outcome=\"pass_not_found\"} 1",
        "edns_queries_total{family=\"ipv6\",outcome=\"pass_stale\"} 0",
        "edns_records 6",
        "edns_records_capacity 262144",
        "edns_attached_interfaces 1",
        "edns_ready 1",
        &build,
    ] {
        assert!(page.lines().any(|l| l == line), "{line}: {page}");
    }
    let number = |name: &str| -> f64 {
        let line = page.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(number("process_resident_memory_bytes ") > 1e6 && number("process_open_fds ") > 5.0);
    assert!(number("process_max_fds ") >= number("process_open_fds ") && number("process_cpu_seconds_total ") > 0.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((0.0..600.0).contains(&(now - number("process_start_time_seconds "))));
    lab.write("page", &page);
    promtool(&lab, "check metrics <page");
    assert_eq!(get(&lab, "127.0.0.1:9153/").unwrap().0, "404");
    let posted = lab.sh("host", "curl -s -o /dev/null -w '%{http_code}' -d x=y http://127.0.0.1:9153/metrics");
    assert_eq!(posted, "405");
}

#[test]
fn alerts_and_dashboard_use_existing_metrics_only() {
    let lab = lab_with(&format!("{CONFIG}MetricsAddr: '[::]:9153'\nEnableK8S: true\nKubeConfig: kubeconfig\n"));
    // A cluster that is away has all the metrics of one that is reachable.
    lab.dead_cluster();
    let _daemon = lab.spawn("host", "config.yaml");
    // On both families.
    metrics(&lab, "127.0.0.1:9153");
    let page = metrics(&lab, "[::1]:9153");
    lab.write("page", &page);
    promtool(&lab, "check metrics <page");
    let samples: HashSet<&str> =
        page.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split(['{', ' ']).next()).collect();
    let manual = repository("docs/metrics.md");
    for sample in samples.iter().filter(|s| !s.starts_with("process_")) {
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .fold(*sample, |name, suffix| name.strip_suffix(suffix).unwrap_or(name));
        let is_documented = ["`", "{"].iter().any(|end| manual.contains(&format!("\n| `{name}{end}")));
        assert!(is_documented, "docs/metrics.md: {name}");
    }
    for (file, least) in [("configs/prometheus/alerts.yaml", 10), ("configs/grafana/edns.json", 10)] {
        let text = repository(file);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named: HashSet<&str> = text
            .split(|c| !word(c))
            .filter(|w| w.starts_with("edns_") || (w.starts_with("process_") && w.len() > "process_".len()))
            .collect();
        assert!(named.len() >= least, "{file}: {named:?}");
        let unknown: Vec<_> = named.iter().filter(|n| !samples.contains(**n)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&repository("configs/grafana/edns.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            // As a rule, which promtool can parse; Grafana's variables are replaced by durations.
            let expr = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            lab.write("rule.yaml", &format!("groups: [{{name: a, rules: [{{record: a, expr: '{expr}'}}]}}]\n"));
            promtool(&lab, "check rules rule.yaml");
        }
    }
}

#[test]
fn alerts_fire_when_they_should() {
    let lab = Lab::new();
    lab.write("alerts.yaml", &repository("configs/prometheus/alerts.yaml"));
    lab.write("alerts_test.yaml", &repository("tests/daemon/alerts_test.yaml"));
    promtool(&lab, "check rules alerts.yaml");
    promtool(&lab, "test rules alerts_test.yaml");
}

#[test]
fn ready_means_attached_and_synced() {
    let lab = lab_with(&format!("{CONFIG}MetricsAddr: localhost:9153\n"));
    let daemon = lab.daemon();
    let readyz = |what: &str, wanted: (&str, &str)| {
        until(what, || match get(&lab, "localhost:9153/readyz")? {
            (status, body) if (status.as_str(), body.as_str()) == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    readyz("ready", ("200", "ready\n"));
    assert_eq!(get(&lab, "localhost:9153/healthz").unwrap(), ("200".into(), "alive\n".into()));
    // The interface is deleted and created again.
    lab.ip("host", "link del veth0");
    readyz("not ready", ("503", "no interface matches Ifname\n"));
    assert!(metrics(&lab, "localhost:9153").contains("\nedns_ready 0\n"));
    assert_eq!(get(&lab, "localhost:9153/healthz").unwrap().0, "200");
    lab.veth(("host", "veth0"), ("pod", "eth0"));
    readyz("ready again", ("200", "ready\n"));
    // A stopped daemon doesn't reply, so it doesn't count as healthy.
    daemon.signal(Signal::SIGSTOP);
    assert!(get(&lab, "localhost:9153/healthz").is_err());
    daemon.signal(Signal::SIGCONT);
    until("alive again", || get(&lab, "localhost:9153/healthz").map(|r| assert_eq!(r.0, "200")));
}

#[test]
fn a_failed_reload_is_reported_until_the_file_is_fixed() {
    let lab = lab_with(&format!("{CONFIG}MetricsAddr: 127.0.0.1:9153\n"));
    let daemon = lab.daemon();
    lab.write("config.yaml", "Ttl: 5\n");
    daemon.wait_for("reload failed; keeping the previous configuration");
    let page = metrics(&lab, "127.0.0.1:9153");
    assert!(page.contains("\nedns_last_reload_successful 0\n"), "{page}");
    let stats = String::from_utf8(lab.edns(&["stats"]).stdout).unwrap();
    assert!(
        stats.contains("last reload failed; keeping the previous configuration: ") && stats.contains("config.yaml:1:"),
        "{stats}"
    );
    lab.write("config.yaml", &format!("{CONFIG}MetricsAddr: 127.0.0.1:9153\n"));
    daemon.wait_for("reloaded after");
    let page = metrics(&lab, "127.0.0.1:9153");
    assert!(page.contains("\nedns_last_reload_successful 1\n"), "{page}");
    assert!(page.contains("\nedns_reloads_total 1\n") && !page.contains("\nedns_reload_errors_total 0\n"), "{page}");
}

#[test]
fn the_address_changes_without_a_restart() {
    let lab = lab_with(&format!("{CONFIG}MetricsAddr: 127.0.0.1:9153\n"));
    let daemon = lab.daemon();
    metrics(&lab, "127.0.0.1:9153");
    lab.write("config.yaml", &format!("{CONFIG}MetricsAddr: 0.0.0.0:9154\n"));
    metrics(&lab, &format!("{SERVER}:9154"));
    until("the old address is closed", || {
        get(&lab, "127.0.0.1:9153/metrics").map_or(Ok(()), |r| Err(format!("{r:?}")))
    });
    lab.write("config.yaml", CONFIG);
    until("all addresses are closed", || get(&lab, "127.0.0.1:9154/metrics").map_or(Ok(()), |r| Err(format!("{r:?}"))));
    assert!(!daemon.log().contains("restart"), "{}", daemon.log());
}

#[test]
fn a_port_in_use_is_tried_again() {
    let lab = lab_with(&format!("{CONFIG}MetricsAddr: 127.0.0.1:9153\n"));
    let mut old = lab.daemon();
    metrics(&lab, "127.0.0.1:9153");
    let new = lab.daemon();
    new.wait_for("retrying until it succeeds");
    old.signal(Signal::SIGTERM);
    assert_eq!(old.wait(), Some(0));
    new.wait_for("metrics at http://127.0.0.1:9153/metrics");
    metrics(&lab, "127.0.0.1:9153");
}

#[test]
fn hostile_clients_delay_neither_others_nor_the_daemon() {
    let lab = lab_with(&format!("{CONFIG}MetricsAddr: 127.0.0.1:9153\n"));
    let _daemon = lab.daemon();
    metrics(&lab, "127.0.0.1:9153");
    let connect = || -> Vec<TcpStream> { (0..200).map(|_| TcpStream::connect("127.0.0.1:9153").unwrap()).collect() };
    let mut silent = lab.run_in("host", connect);
    // Some send nothing, some half a request, some an endless one, and some never read the response.
    for (i, client) in silent.iter_mut().enumerate() {
        let _ = match i % 4 {
            0 => Ok(()),
            1 => client.write_all(b"GET /metrics HTTP/1.1\r\nHost: "),
            2 => client.write_all(&[b'a'; 100_000]),
            _ => client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
    }
    // Other clients are served meanwhile: waiting for all of these to be closed would take a minute.
    metrics(&lab, "127.0.0.1:9153");
    let report = {
        lab.write("queries", "apis.example.org A\n");
        lab.sh("pod", &format!("dnsperf -s {SERVER} -d queries -l 4 -c 1 -Q 500 -T 1 -t 1"))
    };
    assert!(report.contains("Queries lost:         0 (0.00%)"), "{report}");
    assert_eq!(lab.count("pass_daemon"), 0);
    // All of them are closed.
    for client in &mut silent {
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut all = Vec::new();
        if let Err(e) = client.read_to_end(&mut all) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}");
        }
    }
    let open =
        Command::new("ss").args(["-H", "-t", "-n", "-N", lab.ns("host"), "state", "established"]).output().unwrap();
    assert!(open.stdout.is_empty(), "{}", String::from_utf8_lossy(&open.stdout));
}
