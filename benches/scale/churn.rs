//! The time from a watch event to the maps, during many changes.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::api;
use crate::cluster::Cluster;
use crate::lab::within;
use crate::objects::{Services, namespace_of};
use crate::real_apiserver;

const SERVICES: usize = 1_000;
const CHANGES_A_SECOND: u32 = 200;
const TIME: Duration = Duration::from_secs(20);

/// Upper bounds in seconds as in the histogram, and the number of changes up to each.
type Buckets = Vec<(f64, u64)>;

fn buckets(cluster: &Cluster) -> Buckets {
    let page = cluster.lab.sh("host", "curl -s http://127.0.0.1:9153/metrics");
    let lines = page.lines().filter_map(|l| {
        let (bound, count) =
            l.strip_prefix("edns_sync_programming_duration_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
    });
    lines.collect()
}

/// Changes the addresses of slices one after the other. Returns the number of changes.
async fn change(client: kube::Client) -> u32 {
    let mut ticks = interval(Duration::from_secs(1) / CHANGES_A_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut running, mut begun, end) = (FuturesUnordered::new(), 0, Instant::now() + TIME);
    while Instant::now() < end {
        tokio::select! {
            _ = ticks.tick() => {
                let service = begun as usize % SERVICES;
                let address = format!("10.{}.{}.{}", 160 + begun / SERVICES as u32, service >> 8, service & 255);
                let patch = json!({"endpoints": [{"addresses": [address], "conditions": {"ready": true}}]});
                let api = Api::<EndpointSlice>::namespaced(client.clone(), &namespace_of(service));
                let (name, params) = (format!("svc-{service}-x7k2p"), PatchParams::default());
                running.push(async move { api.patch(&name, &params, &Patch::Merge(patch)).await.expect("the API server") });
                begun += 1;
            }
            Some(_) = running.next() => {}
        }
    }
    running.count().await;
    begun
}

/// The bound in milliseconds that this share of the changes did not exceed.
fn quantile(counts: &Buckets, share: f64) -> f64 {
    let all = counts.last().expect("a bucket").1 as f64;
    counts.iter().find(|(_, count)| *count as f64 >= all * share).expect("all are in the last").0 * 1000.0
}

pub fn print_latency() {
    let cluster = real_apiserver::cluster(&Services { count: SERVICES });
    let daemon = cluster.lab.spawn("host", "config.yaml");
    within(60, "ready", || if daemon.log().contains("] ready") { Ok(()) } else { Err(daemon.log()) });
    let before = buckets(&cluster);
    let changes = api::run(&cluster, change);
    let count = |buckets: &Buckets| buckets.last().map_or(0, |b| b.1);
    within(60, "all changes are in the maps", || match count(&buckets(&cluster)) - count(&before) {
        seen if seen >= changes.into() => Ok(()),
        seen => Err(format!("{seen} of {changes}")),
    });
    let counts: Buckets =
        buckets(&cluster).iter().zip(&before).map(|((bound, count), (_, before))| (*bound, count - before)).collect();
    let rate = f64::from(changes) / TIME.as_secs_f64();
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| quantile(&counts, share));
    println!("\n| Services | changed slices a second | events | half within, ms | 90 %, ms | 99 %, ms |");
    println!("| --- | --- | --- | --- | --- | --- |");
    println!("| {SERVICES} | {rate:.0} | {} | {p50} | {p90} | {p99} |", count(&counts));
}
