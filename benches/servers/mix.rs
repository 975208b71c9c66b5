//! Queries of pods: lookups as glibc makes them with `ndots:5` and the search list of the kubelet, A and then AAAA of each
//! name.

use crate::rng::Rng;
use crate::services::Services;

const LOOKUPS: usize = 60_000;
/// Names outside of the cluster.
const OUTSIDE: usize = 50;
/// One in this many Services is asked for by SRV.
const WITH_SRV: usize = 100;

/// The queries in dnsperf's format, one a line, in the order in which they are asked.
pub fn questions(services: &Services) -> Vec<String> {
    let mut rng = Rng::new(1);
    let popularity = Popularity::new(services.count);
    let outside = Popularity::new(OUTSIDE);
    let mut questions = Vec::new();
    for _ in 0..LOOKUPS {
        let service = popularity.pick(&mut rng);
        // The namespaces of the Service and of the pod. A pod asks for Services of its own namespace by their short name.
        let (to, from) = (services.namespace(service), rng.below(services.namespaces()));
        let mut resolve = |name: String, namespace, tried| resolve(&mut questions, &name, namespace, tried);
        match rng.below(100) {
            0..40 => resolve(format!("svc-{service}"), to, 1),
            40..65 => resolve(format!("svc-{service}.ns{to}"), from, 2),
            65..75 => resolve(format!("svc-{service}.ns{to}.{}", SEARCH[0]), from, 4),
            // The fourth query leaves the cluster and is not compared here.
            75..95 => resolve(format!("api-{}.example.com", outside.pick(&mut rng)), from, 3),
            _ => questions.push(format!("{} SRV", srv_name(services, service / WITH_SRV * WITH_SRV))),
        }
    }
    questions
}

/// The search list after the pod's own namespace.
const SEARCH: [&str; 2] = ["svc.cluster.local", "cluster.local"];

/// The names with SRV queries.
pub fn srv_names(services: &Services) -> impl Iterator<Item = String> {
    (0..services.count).step_by(WITH_SRV).map(|service| srv_name(services, service))
}

fn srv_name(services: &Services, service: usize) -> String {
    format!("_http._tcp.svc-{service}.ns{}.svc.cluster.local", services.namespace(service))
}

/// The queries for a name with the first `tried` suffixes of the pod's search list; the fourth is the name itself.
fn resolve(questions: &mut Vec<String>, name: &str, namespace: usize, tried: usize) {
    let suffixes =
        [format!(".ns{namespace}.{}", SEARCH[0]), format!(".{}", SEARCH[0]), format!(".{}", SEARCH[1]), String::new()];
    for suffix in &suffixes[..tried] {
        questions.extend(["A", "AAAA"].map(|rtype| format!("{name}{suffix} {rtype}")));
    }
}

/// A distribution by Zipf's law: the n-th Service is asked for one n-th as often as the first.
struct Popularity {
    sums: Vec<f64>,
}

impl Popularity {
    fn new(n: usize) -> Self {
        let sums = (1..=n).scan(0.0, |sum, i| {
            *sum += 1.0 / i as f64;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    fn pick(&self, rng: &mut Rng) -> usize {
        let last = self.sums.len() - 1;
        let at = (rng.next() >> 11) as f64 / (1_u64 << 53) as f64 * self.sums[last];
        let rank = self.sums.partition_point(|sum| *sum < at).min(last);
        // Services next to each other in rank are not next to each other by name.
        rank * 7919 % self.sums.len()
    }
}
