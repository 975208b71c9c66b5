//! Changes of the files while the daemon runs.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use crate::lab::{DOMAINS, Lab, SERVER, until, within};

fn ask(lab: &Lab, name: &str) -> String {
    lab.dig(&format!("@{SERVER} +short {name}"))
}

fn until_answer(lab: &Lab, name: &str, wanted: &str) {
    until(&format!("{name} is {wanted}"), || match ask(lab, name) {
        answer if answer == wanted => Ok(()),
        answer => Err(answer),
    });
}

#[test]
fn an_edit_takes_effect_without_a_restart() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.write("domain.yaml", &DOMAINS.replace("172.16.171.52", "172.16.171.53"));
    until_answer(&lab, "apis.example.org", "172.16.171.53");
    // A rename, as editors do it.
    lab.write("new.yaml", &DOMAINS.replace("172.16.171.52", "172.16.171.54"));
    fs::rename(lab.path("new.yaml"), lab.path("domain.yaml")).unwrap();
    until_answer(&lab, "apis.example.org", "172.16.171.54");
    daemon.wait_for("reloaded after a changed file: 6 names, 1 changed");
    // Other files in the folder are ignored.
    let before = daemon.log();
    lab.write("other.yaml", "x");
    lab.write("domain.yaml", "Domains:\n");
    daemon.wait_for(": 0 names, 6 changed");
    assert_eq!(daemon.log().matches("reloaded").count(), before.matches("reloaded").count() + 1, "{}", daemon.log());
}

#[test]
fn a_config_maps_links_are_followed() {
    let lab = Lab::new();
    let config = fs::read_to_string(lab.path("config.yaml")).unwrap();
    let version = |n: u8| {
        fs::create_dir(lab.path(&format!("..v{n}"))).unwrap();
        let text = DOMAINS.replace("172.16.171.52", &format!("172.16.171.{n}"));
        lab.write(&format!("..v{n}/domain.yaml"), &text);
        lab.write(&format!("..v{n}/config.yaml"), &config);
        symlink(format!("..v{n}"), lab.path("..data_tmp")).unwrap();
        fs::rename(lab.path("..data_tmp"), lab.path("..data")).unwrap();
    };
    version(1);
    for file in ["config.yaml", "domain.yaml"] {
        fs::remove_file(lab.path(file)).unwrap();
        symlink(format!("..data/{file}"), lab.path(file)).unwrap();
    }
    let _daemon = lab.daemon();
    assert_eq!(ask(&lab, "apis.example.org"), "172.16.171.1");
    for n in 2..5 {
        version(n);
        fs::remove_dir_all(lab.path(&format!("..v{}", n - 1))).unwrap();
        until_answer(&lab, "apis.example.org", &format!("172.16.171.{n}"));
    }
    // Commands reach the daemon all the time.
    assert!(lab.count("answered") >= 4);
}

#[test]
fn a_bad_edit_changes_nothing_and_says_why() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.write("domain.yaml", &format!("{DOMAINS}  - Name: bad.example.org\n    IP: 10.0.0\n"));
    daemon.wait_for("domain.yaml:15:9: bad.example.org: \"10.0.0\" is no IP address (after a changed file)");
    assert_eq!(ask(&lab, "apis.example.org"), "172.16.171.52");
    fs::remove_file(lab.path("domain.yaml")).unwrap();
    lab.write("config.yaml", "Ifname: veth0\nNetworkDirection: Ingress\nDomainFile: domain.yaml\n");
    daemon.wait_for("domain.yaml: No such file or directory");
    assert_eq!(ask(&lab, "apis.example.org"), "172.16.171.52");
    lab.write("config.yaml", "Ifname: veth0\nNetworkDirection: Ingress\nTtl: 5\n");
    daemon.wait_for("config.yaml:3:");
    assert_eq!(ask(&lab, "apis.example.org"), "172.16.171.52");
    lab.write("domain.yaml", DOMAINS);
    lab.write("config.yaml", "Ifname: veth0\nNetworkDirection: Ingress\nTTL: 7\nMaxRecords: 9\n");
    daemon.wait_for("restart needed for: MaxRecords");
    until("the new TTL", || match lab.dig(&format!("@{SERVER} apis.example.org")) {
        reply if reply.contains("apis.example.org.\t7\tIN") => Ok(()),
        reply => Err(reply),
    });
}

#[test]
fn an_edit_during_a_reload_is_not_lost() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let many: String = (0..100_000).map(|i| format!("  - Name: n{i}.example.org\n    IP: 10.0.0.5\n")).collect();
    lab.write("many.yaml", &format!("Domains:\n{many}"));
    fs::rename(lab.path("many.yaml"), lab.path("domain.yaml")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    lab.write("one.yaml", "Domains:\n  - Name: n5.example.org\n    IP: 10.0.0.6\n");
    fs::rename(lab.path("one.yaml"), lab.path("domain.yaml")).unwrap();
    // More than four seconds without optimisation, many more on a loaded machine.
    within(120, "the last edit", || match ask(&lab, "n5.example.org") {
        answer if answer == "10.0.0.6" => Ok(()),
        answer => Err(answer),
    });
    // A large file delays neither the heartbeat nor commands.
    assert_eq!(lab.count("pass_daemon"), 0, "{}", daemon.log());
}

#[test]
fn a_domain_file_may_come_later_and_be_away_for_a_moment() {
    let lab = Lab::new();
    fs::remove_file(lab.path("domain.yaml")).unwrap();
    let daemon = lab.daemon();
    lab.write("domain.yaml", DOMAINS);
    until_answer(&lab, "apis.example.org", "172.16.171.52");
    fs::remove_file(lab.path("domain.yaml")).unwrap();
    daemon.wait_for("domain.yaml: no longer exists; write an empty file to remove all names");
    assert_eq!(ask(&lab, "apis.example.org"), "172.16.171.52");
    lab.write("domain.yaml", &DOMAINS.replace("172.16.171.52", "172.16.171.53"));
    until_answer(&lab, "apis.example.org", "172.16.171.53");
}

#[test]
fn sighup_rereads_both_files() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded after SIGHUP: 6 names, 0 changed");
}

#[test]
fn pass_names_and_servers_change_without_a_restart() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.write(
        "config.yaml",
        &format!("Ifname: veth0\nNetworkDirection: Ingress\nDnsServers: {SERVER}\nPassNames: ['*.apps.example.org']\n"),
    );
    daemon.wait_for("reloaded");
    assert_eq!(ask(&lab, "apis.example.org"), "172.16.171.52");
    assert!(ask(&lab, "q.apps.example.org").contains("no servers"));
    assert!(lab.dig("@10.77.0.99 apis.example.org").contains("no servers"));
    assert!(lab.dig("@fd77::1 apis.example.org").contains("no servers"));
    assert!(lab.count("pass_server") >= 1);
    lab.write("config.yaml", "Ifname: veth0\nNetworkDirection: Ingress\n");
    until_answer(&lab, "q.apps.example.org", "10.0.0.9");
    assert_eq!(lab.dig("@fd77::1 +short apis.example.org"), "172.16.171.52");
}

#[test]
fn queries_to_each_of_many_servers_are_answered() {
    let lab = Lab::new();
    let servers: Vec<String> = (1..=7).map(|i| format!("192.0.2.{i}")).collect();
    let config = |servers: &[String]| {
        let servers = servers.join(", ");
        format!("Ifname: veth0\nNetworkDirection: Ingress\nDnsServers: [{servers}, 'fd00::53']\n")
    };
    let is_answered = |server: &str| lab.dig(&format!("@{server} +short apis.example.org")) == "172.16.171.52";
    lab.write("config.yaml", &config(&servers));
    let daemon = lab.daemon();
    for server in servers.iter().map(String::as_str).chain(["fd00::53"]) {
        assert!(is_answered(server), "{server}");
    }
    lab.write("config.yaml", &config(&servers[1..5]));
    daemon.wait_for("reloaded");
    for (i, server) in servers.iter().enumerate() {
        assert_eq!(is_answered(server), (1..5).contains(&i), "{server}");
    }
}

#[test]
fn names_that_stay_are_never_missing() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.write("queries", "apis.example.org A\ndb.example.org A\nq.apps.example.org A\nx.y.apps.example.org A\n");
    let report = std::thread::scope(|scope| {
        let client =
            scope.spawn(|| lab.sh("pod", &format!("dnsperf -s {SERVER} -d queries -l 4 -c 2 -Q 20000 -t 5 -e")));
        for round in 0..12 {
            let reloads = daemon.log().matches("reloaded").count();
            let extra = |i: u32| format!("  - Name: n{i}.r{}.example.org\n    IP: 10.3.0.1\n", round % 3);
            let extra: String = (0..(round % 5) * 500).map(extra).collect();
            lab.write("domain.yaml", &format!("{DOMAINS}{extra}"));
            until("a reload", || match daemon.log().matches("reloaded").count() {
                n if n > reloads => Ok(()),
                n => Err(n.to_string()),
            });
        }
        client.join().unwrap()
    });
    let stats = lab.edns(&["stats"]);
    let stats = String::from_utf8_lossy(&stats.stdout);
    assert!(report.contains("Queries lost:         0 (0.00%)"), "{report}{stats}");
}
