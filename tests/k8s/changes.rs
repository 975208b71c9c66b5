//! Objects as they come, change and go.

use crate::cluster::{Cluster, DNS};
use crate::lab::until;

fn until_is(cluster: &Cluster, question: &str, wanted: &str) {
    until(&format!("{question} is {wanted:?}"), || {
        let mut lines: Vec<String> =
            cluster.lab.dig(&format!("@{DNS} +short {question}")).lines().map(str::to_owned).collect();
        lines.sort();
        let answer = lines.join(" ");
        if answer == wanted { Ok(()) } else { Err(answer) }
    });
}

fn slice(endpoints: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: app-a, labels: {{kubernetes.io/service-name: app}}}}\naddressType: IPv4\n\
         endpoints: [{endpoints}]\nports: [{{name: http, port: 80}}]\n"
    )
}

#[test]
fn services_and_slices_are_live_within_moments() {
    let cluster = Cluster::new();
    let _daemon = cluster.lab.daemon();
    let name = "app.default.svc.cluster.local";
    let rcode = |name: &str| {
        let reply = cluster.lab.dig(&format!("@{DNS} {name}"));
        reply.split("status: ").nth(1).and_then(|r| r.split(',').next()).unwrap_or_default().to_owned()
    };
    assert_eq!(rcode(name), "NXDOMAIN");

    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: app}\nspec: {clusterIP: None, ports: [{name: http, port: 80}]}\n");
    cluster.apply(&slice("{addresses: [10.244.9.1]}"));
    until_is(&cluster, name, "10.244.9.1");
    cluster.apply(&slice("{addresses: [10.244.9.1]}, {addresses: [10.244.9.2], hostname: two}"));
    until_is(&cluster, name, "10.244.9.1 10.244.9.2");
    until_is(&cluster, &format!("two.{name}"), "10.244.9.2");
    until_is(&cluster, "-x 10.244.9.2", &format!("two.{name}."));
    cluster.apply(&slice("{addresses: [10.244.9.1], conditions: {ready: false}}, {addresses: [10.244.9.3]}"));
    until_is(&cluster, name, "10.244.9.3");
    assert_eq!(rcode(&format!("two.{name}")), "NXDOMAIN");

    // An alias follows what it stands for.
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: to}\nspec: {type: ExternalName, externalName: app.default.svc.cluster.local}\n");
    until_is(&cluster, "to.default.svc.cluster.local", "10.244.9.3 app.default.svc.cluster.local.");
    cluster.delete(&["service", "app"]);
    cluster.delete(&["endpointslice", "app-a"]);
    until("the name is gone", || match rcode(name) {
        code if code == "NXDOMAIN" => Ok(()),
        code => Err(code),
    });
    assert!(cluster.lab.count("pass_not_found") + cluster.lab.count("pass_name") == 0);
}

#[test]
fn names_that_live_are_never_missing_while_others_come_and_go() {
    let cluster = Cluster::new();
    let _daemon = cluster.lab.daemon();
    cluster.lab.write(
        "queries",
        "web.default.svc.cluster.local A\nweb.default.svc.cluster.local AAAA\ndb.default.svc.cluster.local A\n",
    );
    let report = std::thread::scope(|scope| {
        let client =
            scope.spawn(|| cluster.lab.sh("pod", &format!("dnsperf -s {DNS} -d queries -l 6 -c 2 -Q 20000 -t 1")));
        for round in 0..10 {
            let service = |i: u32| {
                format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: churn-{i}}}\nspec: {{ports: [{{port: {}}}]}}\n---\n",
                    80 + round
                )
            };
            cluster.apply(&(0..10).map(service).collect::<String>());
            if round % 3 == 2 {
                cluster.delete(&["service", "churn-0", "churn-1", "churn-2"]);
            }
        }
        client.join().unwrap()
    });
    assert!(report.contains("Queries lost:         0 (0.00%)"), "{report}");
    assert!(report.contains("(100.00%)") && !report.contains("NXDOMAIN"), "{report}");
}
