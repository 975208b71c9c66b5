//! The time that large clusters take: a limit that only a slower algorithm, such as a quadratic one, exceeds.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::*;
use crate::zone::cluster::share::Size;
use crate::zone::cluster::slices::steps;

/// The factor on each limit: several times the usual duration, and less than a quadratic algorithm needs. Debug builds take some
/// ten times as long.
const PATIENCE: u32 = if cfg!(debug_assertions) { 20 } else { 5 };

fn service(i: usize) -> (Key, ServiceSpec) {
    let address = format!("10.{}.{}.{}", 96 + (i >> 16), i >> 8 & 255, i & 255);
    (
        Key::new(&format!("ns{}", i % 100), &format!("service-{i}")),
        cluster_ip(&[&address], &["http/TCP/80", "https/TCP/443"]),
    )
}

fn slice_of(i: usize) -> (Key, SliceSpec) {
    let endpoints: Vec<String> = (0..3).map(|n| format!("10.{}.{}.{}", 128 + n, i >> 8 & 255, i & 255)).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let spec = slice(&format!("service-{i}"), &["http/TCP/8080", "https/TCP/8443"], &endpoints);
    (Key::new(&format!("ns{}", i % 100), &format!("service-{i}-abcde")), spec)
}

/// Processor time of this thread, which other load on the machine does not change much.
fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn within(limit: Duration, what: &str, work: impl FnOnce()) {
    let start = spent();
    work();
    let took = spent() - start;
    println!("{what}: {took:?}");
    assert!(took < limit * PATIENCE, "{what} took {took:?}");
}

#[test]
fn ten_thousand_services_do_not_take_quadratic_time() {
    const N: usize = 10_000;
    let (services, slices): (Vec<_>, Vec<_>) = (0..N).map(|i| (service(i), slice_of(i))).unzip();
    let mut cluster = Cluster::new(config());
    cluster.replace_namespaces((0..100).map(|i| format!("ns{i}")));
    within(Duration::from_secs(1), "services, in one commit", || {
        cluster.replace_services(services.clone());
        // For each Service its name, two ports and a reverse name.
        assert_eq!(cluster.commit().len(), 5 + 200 + N * 4);
    });
    within(Duration::from_secs(2), "their slices, in one commit", || {
        cluster.replace_slices(slices.clone());
        // For each slice three endpoints and their reverse names.
        assert_eq!(cluster.commit().len(), N * 6);
    });
    within(Duration::from_secs(1), "a relist that finds nothing new", || {
        cluster.replace_services(services);
        cluster.replace_slices(slices);
        assert_eq!(cluster.commit(), []);
    });
    let mut other = Cluster::new(config());
    other.replace_namespaces((0..100).map(|i| format!("ns{i}")));
    other.commit();
    within(Duration::from_secs(2), "one by one", || {
        for i in 0..N {
            let ((key, spec), (slice_key, slice)) = (service(i), slice_of(i));
            other.apply_service(key, &spec);
            assert_eq!(other.commit().len(), 4);
            other.apply_slice(slice_key, &slice);
            assert_eq!(other.commit().len(), 6);
        }
    });
    within(Duration::from_secs(1), "a thousand single changes", || {
        for i in 0..1000 {
            let (key, _) = service(i);
            other.delete_service(&key);
            assert_eq!(other.commit().len(), 7);
        }
    });
}

/// Half of the Services are in one namespace, and most of its names are withheld.
#[test]
fn twenty_thousand_services_in_full_maps_do_not_take_quadratic_time() {
    const N: usize = 20_000;
    let service = |i: usize| {
        let (key, spec) = service(i);
        if i.is_multiple_of(2) { (Key::new("greedy", &key.name), spec) } else { (key, spec) }
    };
    let mut cluster = Cluster::new(config());
    cluster.replace_namespaces((0..100).map(|i| format!("ns{i}")).chain(["greedy".into()]));
    cluster.replace_services((0..N).map(service));
    cluster.set_capacity(Size { names: N * 4 * 6 / 10, ..Size::MAX });
    within(Duration::from_secs(2), "services, in one commit", || _ = cluster.commit());
    assert!(cluster.withheld_names().0 > N);
    for (namespaces, from, limit) in [("other namespaces", 1, 500), ("the greedy namespace", 0, 2000)] {
        within(Duration::from_millis(limit), &format!("two hundred changes in {namespaces}, one by one"), || {
            for i in (0..200).map(|i| from + i * 2) {
                let (key, spec) = service(i);
                cluster.delete_service(&key);
                cluster.commit();
                cluster.rest();
                cluster.apply_service(key, &spec);
                cluster.commit();
                cluster.rest();
            }
        });
    }
}

#[test]
fn a_large_headless_service_does_not_take_quadratic_time() {
    let mut cluster = Cluster::new(config());
    let slice_with = |s: usize, from: usize| {
        let endpoints: Vec<String> = (from..100).map(|i| format!("10.1.{s}.{i}=pod-{s}-{i}")).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        slice("big", &["http/TCP/80"], &endpoints)
    };
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    for s in 0..50 {
        cluster.apply_slice(Key::new("default", &format!("big-{s}")), &slice_with(s, 0));
    }
    assert_eq!(cluster.commit().len(), 5 + 2 + 2 + 5000 * 2);
    within(Duration::from_secs(2), "a hundred endpoints, one by one, of five thousand", || {
        for from in 1..=100 {
            cluster.apply_slice(Key::new("default", "big-7"), &slice_with(7, from));
            // The endpoint's name and its reverse name. The Service's addresses don't fit into a message, before and after.
            let changes = cluster.commit();
            assert_eq!(changes.len(), 2, "{changes:?}");
        }
    });
    within(Duration::from_secs(1), "a thousand endpoints in one commit", || {
        for s in 10..20 {
            cluster.apply_slice(Key::new("default", &format!("big-{s}")), &slice_with(s, 100));
        }
        assert_eq!(cluster.commit().iter().filter(|c| matches!(c, Change::Remove(_))).count(), 2000);
    });
}

#[test]
fn an_address_of_many_services_does_not_take_quadratic_time() {
    let mut cluster = Cluster::new(config());
    cluster.apply_namespace("default");
    cluster.commit();
    within(Duration::from_secs(1), "five thousand slices with one address", || {
        for i in 0..5000 {
            cluster.apply_slice(Key::new("default", &format!("s{i}")), &slice(&format!("s{i}"), &[], &["10.0.0.1"]));
            assert_eq!(cluster.commit().len(), 1);
        }
    });
    let name = reverse::name_of("10.0.0.1".parse().unwrap()).unwrap();
    // More targets than a message holds.
    assert_eq!(cluster.node(&name).unwrap().types, [(12, crate::zone::node::Verdict::Pass)]);
}

/// A tenant may create a slice for each endpoint.
#[test]
fn many_slices_of_one_service_do_not_take_quadratic_time() {
    const N: usize = 20_000;
    let mut cluster = Cluster::new(config());
    let slice_with =
        |i: usize, net: usize| slice("big", &["http/TCP/80"], &[&format!("10.{net}.{}.{}", i >> 8, i & 255)]);
    let key = |i: usize| Key::new("default", &format!("big-{i}"));
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    (0..N).for_each(|i| cluster.apply_slice(key(i), &slice_with(i, 1)));
    assert_eq!(cluster.commit().len(), 5 + 2 + 2 + N * 2);
    within(Duration::from_secs(1), "twenty changed slices, one by one", || {
        for i in 0..20 {
            cluster.apply_slice(key(i), &slice_with(i, 2));
            // The Service, its port, and the endpoint's name and reverse name before and after.
            assert!(cluster.commit().len() < 10);
        }
    });
}

/// The aliases of a Service with many endpoints may belong to another tenant.
#[test]
fn many_aliases_of_single_endpoints_do_not_take_quadratic_time() {
    const ALIASES: usize = 2_000;
    let mut cluster = Cluster::new(config());
    let slice_with = |s: usize, net: usize| {
        let endpoints: Vec<String> = (0..1000).map(|i| format!("10.{net}.{}.{}", i >> 8, i & 255)).collect();
        (
            Key::new("default", &format!("big-{s}")),
            slice("big", &["http/TCP/80"], &endpoints.iter().map(|e| &**e).collect::<Vec<_>>()),
        )
    };
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    (0..10).map(|s| slice_with(s, s)).for_each(|(key, slice)| cluster.apply_slice(key, &slice));
    for i in 0..ALIASES {
        let alias = external(&format!("10-9-{}-{}.big.default.svc.cluster.local", (i % 1000) >> 8, i & 255));
        cluster.apply_service(Key::new("default", &format!("alias-{i}")), &alias);
    }
    cluster.commit();
    within(Duration::from_secs(1), "a changed slice and all aliases", || {
        let (key, slice) = slice_with(0, 100);
        cluster.apply_slice(key, &slice);
        assert!(cluster.commit().len() >= ALIASES);
    });
}

/// One object of the API may have this many ports and endpoints.
#[test]
fn many_ports_of_many_endpoints_do_not_take_quadratic_time() {
    const ENDPOINTS: usize = 1_000;
    const PORTS: usize = 20_000;
    let endpoints: Vec<String> = (0..ENDPOINTS).map(|i| format!("10.1.{}.{}", i >> 8, i & 255)).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    for number in [false, true] {
        let port =
            |i: usize| PortSpec { name: format!("p{i}"), protocol: "TCP".into(), port: number.then_some(i as u16) };
        let mut spec = slice("big", &[], &endpoints);
        spec.ports = (0..PORTS).map(port).collect();
        for (what, service) in [("headless", headless()), ("with an address", cluster_ip(&["10.96.0.1"], &[]))] {
            let mut cluster = Cluster::new(config());
            cluster.apply_namespace("default");
            cluster.apply_service(Key::new("default", "big"), &service);
            cluster.commit();
            within(Duration::from_millis(500), &format!("many ports, {what}, numbered: {number}"), || {
                cluster.apply_slice(Key::new("default", "big-1"), &spec);
                assert!(cluster.commit().len() >= 2 * ENDPOINTS);
            });
            within(Duration::from_millis(500), "one endpoint less", || {
                let mut spec = spec.clone();
                spec.endpoints.pop();
                cluster.apply_slice(Key::new("default", "big-1"), &spec);
                assert!(cluster.commit().len() >= 2);
            });
        }
    }
}

#[test]
fn ports_of_many_slices_do_not_take_quadratic_time() {
    const SLICES: usize = 2_000;
    let mut cluster = Cluster::new(config());
    let slice_with = |s: usize, endpoints: &[&str]| {
        let ports: Vec<String> = (0..5).map(|p| format!("p{s}-{p}/TCP/{}", 1 + s * 5 + p)).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        (Key::new("default", &format!("big-{s}")), slice("big", &ports, endpoints))
    };
    let address = |s: usize| format!("10.1.{}.{}", s >> 8, s & 255);
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    (0..SLICES).map(|s| slice_with(s, &[&address(s)])).for_each(|(key, spec)| cluster.apply_slice(key, &spec));
    assert_eq!(cluster.commit().len(), 5 + 2 + 1 + SLICES * 7);
    within(Duration::from_millis(500), "one endpoint more", || {
        let (key, spec) = slice_with(7, &[&address(7), "10.2.0.1"]);
        cluster.apply_slice(key, &spec);
        // The endpoint's name and reverse name, and the five ports of its slice.
        assert_eq!(cluster.commit().len(), 7);
    });
}

#[test]
fn many_aliases_of_many_endpoints_do_not_take_quadratic_time() {
    const ALIASES: usize = 10_000;
    let mut cluster = Cluster::new(config());
    let slice_with = |s: usize, n: usize| {
        let endpoints: Vec<String> = (0..n).map(|i| format!("10.{s}.{}.{}", i >> 8, i & 255)).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        (Key::new("default", &format!("big-{s}")), slice("big", &["http/TCP/80"], &endpoints))
    };
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    (0..10).map(|s| slice_with(s, 1000)).for_each(|(key, spec)| cluster.apply_slice(key, &spec));
    for i in 0..ALIASES {
        // Half of the aliases lead to the Service, half to one endpoint each.
        let endpoint = if i % 2 == 0 { String::new() } else { format!("10-9-{}-{}.", (i % 1000) >> 8, i & 255) };
        let alias = external(&format!("{endpoint}big.default.svc.cluster.local"));
        cluster.apply_service(Key::new("default", &format!("alias-{i}")), &alias);
    }
    within(Duration::from_secs(1), "aliases, in one commit", || assert!(cluster.commit().len() > ALIASES));
    within(Duration::from_secs(1), "one endpoint less, and all aliases", || {
        let (key, spec) = slice_with(3, 999);
        cluster.apply_slice(key, &spec);
        assert!(cluster.commit().len() >= ALIASES);
    });
}

#[test]
fn an_address_of_many_hostnames_does_not_take_quadratic_time() {
    let mut cluster = Cluster::new(config());
    let endpoints: Vec<String> = (0..50_000).map(|i| format!("10.0.0.1=h{i}")).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    cluster.apply_namespace("default");
    cluster.commit();
    within(Duration::from_secs(1), "fifty thousand hostnames with one address", || {
        cluster.apply_slice(Key::new("default", "s"), &slice("s", &[], &endpoints));
        assert_eq!(cluster.commit().len(), 1);
        cluster.delete_slice(&Key::new("default", "s"));
        assert_eq!(cluster.commit().len(), 1);
    });
}

/// Slices of one Service, each with these ports and endpoints.
fn slices_of(
    service: &str,
    slices: usize,
    ports: impl Fn(usize, usize) -> String,
    (count, endpoints): (usize, &[String]),
) -> Vec<(Key, SliceSpec)> {
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let spec = |s: usize| SliceSpec {
        ports: (0..count)
            .map(|p| PortSpec { name: ports(s, p), protocol: "TCP".into(), port: Some(p as u16) })
            .collect(),
        ..slice(service, &[], &endpoints)
    };
    (0..slices).map(|s| (Key::new("default", &format!("{service}-{s}")), spec(s))).collect()
}

fn addresses(net: usize, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("10.{net}.{}.{}", i >> 8, i & 255)).collect()
}

#[test]
fn aliases_of_single_ports_do_not_read_all_ports() {
    const ALIASES: usize = 12_000;
    let mut cluster = Cluster::new(config());
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    let slices = slices_of("big", 3, |s, p| format!("p{s}-{p}"), (20_000, &addresses(1, 1)));
    slices.into_iter().for_each(|(key, spec)| cluster.apply_slice(key, &spec));
    for i in 0..ALIASES {
        let alias = external(&format!("_p{}-{}._tcp.big.default.svc.cluster.local", i % 3, 19_999 - i));
        cluster.apply_service(Key::new("default", &format!("alias-{i}")), &alias);
    }
    within(Duration::from_secs(1), "ports and aliases of them", || assert!(cluster.commit().len() > ALIASES));
    within(Duration::from_secs(1), "another endpoint, and all aliases", || {
        let (key, spec) = slices_of("big", 1, |s, p| format!("p{s}-{p}"), (20_000, &addresses(2, 1))).remove(0);
        cluster.apply_slice(key, &spec);
        steps::take();
        assert!(cluster.commit().len() > ALIASES / 3);
        // Each alias finds its port directly.
        let steps = steps::take();
        assert!(steps < 3 * ALIASES, "{steps}");
    });
}

#[test]
fn aliases_of_ports_do_not_unite_the_same_slices_again() {
    const ALIASES: usize = 800;
    let mut cluster = Cluster::new(config());
    cluster.apply_namespace("default");
    cluster.apply_service(Key::new("default", "big"), &headless());
    let slices = slices_of("big", 38, |_, p| format!("p{p}"), (800, &addresses(1, 800)));
    slices.into_iter().for_each(|(key, spec)| cluster.apply_slice(key, &spec));
    for i in 0..ALIASES {
        let alias = external(&format!("_p{i}._tcp.big.default.svc.cluster.local"));
        cluster.apply_service(Key::new("default", &format!("alias-{i}")), &alias);
    }
    cluster.commit();
    within(Duration::from_millis(500), "one endpoint less, and all aliases", || {
        let (key, spec) = slices_of("big", 1, |_, p| format!("p{p}"), (800, &addresses(1, 799))).remove(0);
        cluster.apply_slice(key, &spec);
        steps::take();
        assert!(cluster.commit().len() >= ALIASES);
        // Each port is looked up in its slices, whose union is known after the first one.
        let steps = steps::take();
        assert!(steps < 3 * 38 * ALIASES, "{steps}");
    });
}

/// The slices list the same endpoints, or each has its own.
#[test]
fn ports_of_many_slices_do_not_read_all_endpoints() {
    for (same, endpoints) in [(true, 76), (false, 20), (false, 76)] {
        let mut cluster = Cluster::new(config());
        cluster.apply_namespace("default");
        cluster.apply_service(Key::new("default", "big"), &headless());
        let of = |s: usize, count: usize| {
            let endpoints = addresses(if same { 1 } else { s }, count);
            let (_, spec) = slices_of("big", 1, |_, p| format!("p{p}"), (1_000, &endpoints)).remove(0);
            (Key::new("default", &format!("big-{s}")), spec)
        };
        (0..58).map(|s| of(s, endpoints)).for_each(|(key, spec)| cluster.apply_slice(key, &spec));
        within(Duration::from_millis(500), &format!("ports of many slices, {endpoints} endpoints"), || {
            assert!(cluster.commit().len() > 1_000);
        });
        within(Duration::from_millis(500), "one endpoint less", || {
            let (key, spec) = of(7, endpoints - 1);
            cluster.apply_slice(key, &spec);
            steps::take();
            cluster.commit();
            // The lookups for each name are limited by the size of a message, before and after.
            let steps = steps::take();
            assert!(steps < 2 * 1_000 * 200, "{steps}");
        });
    }
}

/// A tenant may set the label that names a slice's Service.
#[test]
fn slices_that_change_their_service_do_not_take_quadratic_time() {
    let mut cluster = Cluster::new(config());
    cluster.apply_namespace("default");
    ["one", "two"].iter().for_each(|name| cluster.apply_service(Key::new("default", name), &headless()));
    cluster.commit();
    for (what, service) in [("are added", "one"), ("move", "two")] {
        within(Duration::from_millis(1500), &format!("sixty thousand endpoints {what}"), || {
            for s in 0..60 {
                let (_, spec) = slices_of(service, 1, |_, _| "http".into(), (1, &addresses(s, 1_000))).remove(0);
                cluster.apply_slice(Key::new("default", &format!("s{s}")), &spec);
            }
            assert!(cluster.commit().len() >= 60_000);
        });
    }
}

#[test]
fn an_index_can_be_sent_to_another_thread() {
    let build = || {
        let mut cluster = Cluster::new(config());
        cluster.apply_namespace("default");
        cluster.commit();
        cluster
    };
    let cluster = std::thread::spawn(build).join().unwrap();
    assert!(cluster.node(&Name::parse("default.svc.cluster.local").unwrap()).is_some());
}
