//! A tenant whose small changes are expensive for the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use hickory_proto::rr::RecordType::A;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::api;
use crate::cluster::Cluster;
use crate::lab::within;
use crate::node::Node;

const TEAMS: usize = 5;
/// The tenant's slices, each with [`ENDPOINTS`] endpoints. They move between two sets of Services.
const SLICES: usize = 40;
const ENDPOINTS: usize = 500;
const SERVICES: usize = 10;
/// The number of changes that other namespaces make meanwhile.
const CHANGES: usize = 20;
/// Others' changes would take longer if they waited for all of the tenant's.
const PATIENCE: Duration = Duration::from_secs(10);

fn service(namespace: &str, name: &str, address: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": [{"name": "http", "port": 80}]}})
}

fn of(slice: usize, turn: usize) -> String {
    format!("{}-{}", if turn.is_multiple_of(2) { "one" } else { "two" }, slice % SERVICES)
}

fn slice(i: usize) -> Value {
    let endpoint = |e: usize| json!({"addresses": [format!("10.{}.{}.{}", 100 + i, e / 250, e % 250)]});
    json!({"kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
        "metadata": {"name": format!("slice-{i}"), "namespace": "tenant",
            "labels": {"kubernetes.io/service-name": of(i, 0)}}})
}

/// Moves all slices to the other Services, again and again.
fn move_slices(cluster: &Cluster, ends: &AtomicBool) {
    api::run(cluster, async |client| {
        let slices: Api<EndpointSlice> = Api::namespaced(client, "tenant");
        for turn in 1.. {
            let moved = (0..SLICES).map(|i| {
                let patch = json!({"metadata": {"labels": {"kubernetes.io/service-name": of(i, turn)}}});
                let slices = &slices;
                async move {
                    let name = format!("slice-{i}");
                    slices.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the API server");
                }
            });
            stream::iter(moved).buffer_unordered(8).collect::<Vec<()>>().await;
            if ends.load(Ordering::Relaxed) {
                return;
            }
        }
    });
}

/// Ends the tenant's work, also if the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_tenant_who_makes_work_delays_nobody_else() {
    let cluster = Arc::new(Cluster::new());
    let team = |i: usize| format!("team-{i}");
    let namespace = |name: String| json!({"kind": "Namespace", "metadata": {"name": name}});
    let namespaces = (0..TEAMS).map(|i| namespace(team(i))).chain([namespace("tenant".into())]).collect();
    let services =
        (0..SERVICES).flat_map(|i| [service("tenant", &of(i, 0), "None"), service("tenant", &of(i, 1), "None")]);
    api::create(&cluster, &[namespaces, services.chain((0..SLICES).map(slice)).collect()]);
    let node = Node::new(&cluster);
    let _daemon = node.daemon();
    let client = node.pod();
    let endpoint = |i: usize, turn: usize| format!("10-{}-1-7.{}.tenant.svc.cluster.local", 100 + i, of(i, turn));
    node.until_answered(&client, &endpoint(3, 0));

    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&ends);
        scope.spawn(|| move_slices(&cluster, &ends));
        let (mut slowest, mut passed) = (Duration::ZERO, [0; TEAMS]);
        for i in 0..CHANGES {
            let (ns, name) = (team(i % TEAMS), format!("web-{i}"));
            api::create(&cluster, &[vec![service(&ns, &name, &format!("10.96.88.{}", 1 + i))]]);
            let start = Instant::now();
            let name = format!("{name}.{ns}.svc.cluster.local");
            within(60, &format!("{name} is answered"), || match node.ask(&client, &name, A) {
                (reply, true) if reply.rcode == "NoError" => Ok(()),
                other => Err(format!("{other:?}")),
            });
            slowest = slowest.max(start.elapsed());
            for (i, passed) in passed.iter_mut().enumerate() {
                let (_, is_ours) = node.ask(&client, &format!("nobody-{i}.{}.svc.cluster.local", team(i)), A);
                *passed += usize::from(!is_ours);
            }
        }
        println!("{slowest:?} at most, negative answers that passed by namespace: {passed:?}");
        assert!(slowest < PATIENCE, "{slowest:?}");
        // One may share the tenant's gate. A slow machine may be late now and then.
        assert!(passed.iter().filter(|passed| **passed > CHANGES * 3 / 4).count() <= 1, "{passed:?} passed");
    });
    // What the tenant did last is answered in the end.
    within(60, "one of both sets is answered", || {
        let answers = [0, 1].map(|turn| node.ask(&client, &endpoint(3, turn), A));
        let is = |at: usize, rcode: &str| answers[at].1 && answers[at].0.rcode == rcode;
        let is_right = is(0, "NoError") && is(1, "NXDomain") || is(1, "NoError") && is(0, "NXDomain");
        if is_right { Ok(()) } else { Err(format!("{answers:?}")) }
    });
}
