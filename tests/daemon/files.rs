//! Files that are written in every way. The daemon never uses a half-written file.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::signal::Signal;
use nix::unistd::linkat;

use crate::lab::{DOMAINS, Daemon, EDNS, Lab, SERVER, until};

const NAME: &str = "apis.example.org";
/// The address of [`NAME`] in [`DOMAINS`].
const OLD: &str = "172.16.171.52";
/// Longer than an event needs, shorter than any wait of the daemon.
const SOON: Duration = Duration::from_millis(500);

fn ask(lab: &Lab, name: &str) -> String {
    lab.dig(&format!("@{SERVER} +short {name}"))
}

/// Asserts that the old answer stays for this many seconds.
fn assert_stays(lab: &Lab, seconds: u64, after: &str) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        assert_eq!(ask(lab, NAME), OLD, "{after}");
    }
}

/// Waits for an answer. Until then the previous one has to stay.
fn until_changes(lab: &Lab, before: &str, wanted: &str) {
    until(&format!("{NAME} is {wanted}"), || match ask(lab, NAME) {
        answer if answer == wanted => Ok(()),
        answer => {
            assert_eq!(answer, before, "before {wanted}");
            Err(answer)
        }
    });
}

/// What `edns stats` reports about files.
fn held(lab: &Lab) -> Vec<String> {
    let stats: serde_json::Value = serde_json::from_slice(&lab.edns(&["stats", "--json"]).stdout).expect("JSON");
    stats["held_files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_owned()).collect()
}

/// Sets a file's modification time to this many seconds ago.
fn age(lab: &Lab, file: &str, seconds: u64) {
    lab.sh("host", &format!("touch -d '{seconds} seconds ago' {file}"));
}

#[test]
fn however_a_file_is_written_the_final_version_takes_effect() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let mut before = OLD.to_owned();
    for (i, (way, script)) in [
        ("vim", "mv domain.yaml domain.yaml~; cat new >domain.yaml; rm domain.yaml~"),
        ("nano", "dd if=new of=domain.yaml bs=64 status=none"),
        ("cp", "cp new domain.yaml"),
        ("cp -p", "cp -p new domain.yaml"),
        ("mv", "mv new domain.yaml"),
        (">", "cat new >domain.yaml"),
        (">>", "head -c 70 new >part; tail -c +71 new >rest; cp part domain.yaml; cat rest >>domain.yaml"),
        ("over what is there", "dd if=new of=domain.yaml conv=notrunc bs=50 status=none"),
        ("sed -i", "sed -i \"s/IP: 172.*/$(grep -o 'IP: 172.*' new)/\" domain.yaml"),
        ("rsync", "rsync -I new domain.yaml"),
        ("rsync -a", "rsync -aI new domain.yaml"),
        ("rsync --inplace", "rsync -I --inplace new domain.yaml"),
        ("rsync -a --inplace", "rsync -aI --inplace new domain.yaml"),
        ("ln", "cp new linked; ln -f linked domain.yaml; rm linked"),
        ("another file", "rm domain.yaml; cp new domain.yaml"),
        ("truncate", "truncate -s 0 domain.yaml; cat new >domain.yaml"),
    ]
    .into_iter()
    .enumerate()
    {
        let after = format!("172.16.171.{}", 100 + i);
        lab.write("new", &DOMAINS.replace(OLD, &after));
        lab.sh("host", script);
        until_changes(&lab, &before, &after);
        assert!(held(&lab).is_empty(), "{way}: {:?}", held(&lab));
        before = after;
    }
    let log = daemon.log();
    assert!(!log.contains(" WARN ") && !log.contains("inotify does not report"), "{log}");
}

#[test]
fn a_change_is_used_when_its_writer_has_closed_the_file() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    let half = DOMAINS.replace("IP: 172.16.171.52\n", "IP: 10.0.0.1");
    let (half, rest) = half.split_at(half.find("10.0.0.1").unwrap() + "10.0.0.1".len());
    let mut file = OpenOptions::new().write(true).truncate(true).open(lab.path("domain.yaml")).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    assert_stays(&lab, 4, "half a line");
    // Also not when another process closes the file meanwhile.
    drop(OpenOptions::new().append(true).open(lab.path("domain.yaml")).unwrap());
    assert_stays(&lab, 2, "half a line");
    file.write_all(format!("00\n{rest}").as_bytes()).unwrap();
    drop(file);
    until_changes(&lab, OLD, "10.0.0.100");
}

#[test]
fn a_file_of_absurd_size_leaves_the_old_records() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    for file in ["config.yaml", "domain.yaml"] {
        lab.sh("host", &format!("cp {file} kept; truncate -s 3G {file}"));
        daemon.wait_for(&format!("{file}: is too large: 3221225472 bytes, the maximum is 134217728 (128 MiB)"));
        assert_eq!(ask(&lab, NAME), OLD);
        lab.sh("host", &format!("mv kept {file}"));
        daemon.wait_for("reloaded");
    }
    assert!(daemon.peak() < 128, "{} MiB", daemon.peak());
}

/// The file's owner decides whether the kernel reports that a process has it open (leases). inotify reports that a process
/// closed it.
#[test]
fn a_file_of_another_user_is_used_when_any_process_has_closed_it() {
    let lab = Lab::new();
    lab.sh("host", "chown 65534 domain.yaml");
    let daemon = lab.daemon();
    let after = DOMAINS.replace(OLD, "10.0.0.100");
    let (half, rest) = after.split_at(after.find("  - Name").unwrap());
    let mut file = OpenOptions::new().write(true).truncate(true).open(lab.path("domain.yaml")).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    assert_stays(&lab, 4, "half a line");
    drop(OpenOptions::new().append(true).open(lab.path("domain.yaml")).unwrap());
    daemon.wait_for("reloaded after a changed file: 0 names");
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    daemon.wait_for("reloaded after a changed file: 6 names");
    assert_eq!(ask(&lab, NAME), "10.0.0.100");
}

/// A package installs it like this: the files belong to root, and the daemon is another user or has no CAP_LEASE.
#[test]
fn sighup_waits_for_a_writer_of_another_users_file() {
    let lab = Lab::new();
    lab.sh("host", "chown 65534 domain.yaml config.yaml");
    let daemon = lab.daemon();
    let stays = |after: &str| {
        daemon.signal(Signal::SIGHUP);
        assert_stays(&lab, 3, after);
    };
    let text = |ip: &str| format!("Domains:\n  - Name: {NAME}\n    IP: {ip}");
    // Renamed while it is written, and moved away and back.
    let mut file = fs::File::create(lab.path("new")).unwrap();
    lab.sh("host", "chown 65534 new");
    file.write_all(text("10.0.0.1").as_bytes()).unwrap();
    fs::rename(lab.path("new"), lab.path("domain.yaml")).unwrap();
    stays("a rename");
    lab.sh("host", "mv domain.yaml aside; mv aside domain.yaml");
    stays("two more");
    // The config is read meanwhile, because it is not being written.
    daemon.wait_for("reloaded after SIGHUP");
    file.write_all(b"00\n").unwrap();
    drop(file);
    until_changes(&lab, OLD, "10.0.0.100");
    lab.write("domain.yaml", &format!("{}\n", text(OLD)));
    until_changes(&lab, "10.0.0.100", OLD);
    // A file that never had a name has no writer either.
    let mut file = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(lab.path("")).unwrap();
    file.write_all(format!("{}\n", text("10.0.0.7")).as_bytes()).unwrap();
    fchown(&file, Some(65534), None).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, &*path, AT_FDCWD, &lab.path("linked"), AtFlags::AT_SYMLINK_FOLLOW).unwrap();
    drop(file);
    fs::rename(lab.path("linked"), lab.path("domain.yaml")).unwrap();
    until_changes(&lab, OLD, "10.0.0.7");
    lab.write("domain.yaml", &format!("{}\n", text(OLD)));
    until_changes(&lab, "10.0.0.7", OLD);
    // Truncated and then written in place.
    let mut file = OpenOptions::new().write(true).truncate(true).open(lab.path("domain.yaml")).unwrap();
    stays("the cut");
    file.write_all(text("10.0.0.1").as_bytes()).unwrap();
    stays("a half");
    daemon.wait_for("domain.yaml: open for writing for 10 s");
    assert_eq!(ask(&lab, NAME), OLD);
    file.write_all(b"23").unwrap();
    drop(file);
    // After SIGHUP no newline is needed.
    until_changes(&lab, OLD, "10.0.0.123");
    assert!(held(&lab).is_empty());
}

#[test]
fn stats_shows_no_mistake_of_a_version_before_the_one_that_is_held_back() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let shows = |text: &str| {
        let stats = String::from_utf8(lab.edns(&["stats"]).stdout).unwrap();
        if stats.contains(text) { Ok(()) } else { Err(stats) }
    };
    lab.write("domain.yaml", &DOMAINS.replace(OLD, "x"));
    daemon.wait_for("\"x\" is no");
    until("the mistake is shown", || shows("\"x\" is no"));
    lab.write("domain.yaml", DOMAINS.trim_end());
    until("the new version is held back", || shows("may be half-written"));
    assert!(shows("\"x\" is no").is_err());
}

#[test]
fn a_writer_killed_in_mid_line_leaves_the_old_records() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let padding = "#".repeat(DOMAINS.len());
    let die = format!(
        "sh -c 'exec >domain.yaml; printf \"Domains: # {padding}\\n  - Name: {NAME}\\n    IP: 10.0.0.1\"; kill -9 $$' || true"
    );
    lab.sh("host", &die);
    daemon.wait_for("domain.yaml: its last line has no newline, so it may be half-written");
    sleep(SOON * 4);
    assert_eq!(ask(&lab, NAME), OLD);
    assert!(held(&lab)[0].contains("domain.yaml: its last line has no newline"), "{:?}", held(&lab));
    let text = lab.edns(&["stats"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("domain.yaml: its last line has no newline"), "{text:?}");
    // Reported once.
    lab.sh("host", &die);
    sleep(SOON);
    assert_eq!(daemon.log().matches("its last line has no newline").count(), 1, "{}", daemon.log());
    lab.sh("host", "printf '00\\n' >>domain.yaml");
    until_changes(&lab, OLD, "10.0.0.100");
    assert!(held(&lab).is_empty());
    // SIGHUP confirms the file, so that it needs no newline.
    lab.sh("host", &die);
    until("held", || if held(&lab).is_empty() { Err(daemon.log()) } else { Ok(()) });
    assert_eq!(ask(&lab, NAME), "10.0.0.100");
    daemon.signal(Signal::SIGHUP);
    until_changes(&lab, "10.0.0.100", "10.0.0.1");
    assert!(held(&lab).is_empty());
    lab.sh("host", "printf 23 >>domain.yaml");
    until_changes(&lab, "10.0.0.1", "10.0.0.123");
}

#[test]
fn a_renamed_file_needs_no_last_newline() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    lab.write("new", &format!("Domains:\n  - Name: {NAME}\n    IP: 10.0.0.1"));
    fs::rename(lab.path("new"), lab.path("domain.yaml")).unwrap();
    until_changes(&lab, OLD, "10.0.0.1");
}

/// Starts the daemon with a folder of its own in a mount namespace. `mount` is the script that makes it, with $1 as the lab's
/// folder.
fn mounted(lab: &Lab, mount: &str) -> Daemon {
    let mut command = lab.command("host", "unshare");
    let script = format!("{mount}\nexec {EDNS} --config \"$1/at/config.yaml\"");
    command.args(["-m", "sh", "-ec", &script, "sh"]).arg(&lab.dir);
    let daemon = Daemon::of(lab, command);
    daemon.wait_for("ready");
    daemon
}

/// Runs a shell command in the folder of [`mounted`]. Whether it succeeds.
fn sh_at(lab: &Lab, daemon: &Daemon, script: &str) -> bool {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", daemon.pid())).args([
        "sh",
        "-c",
        &format!("cd \"$1/at\" && {script}"),
        "sh",
    ]);
    command.arg(&lab.dir).status().unwrap().success()
}

#[test]
fn a_full_disk_leaves_the_old_records() {
    let lab = Lab::new();
    lab.sh("host", "mkdir at");
    let entries: String =
        (0..2000).map(|i| format!("  - Name: n{i}.example.org\n    IP: 10.0.0.1{:02}\n", i % 100)).collect();
    lab.write("larger", &format!("Domains:\n  - Name: {NAME}\n    IP: 10.0.0.1\n{entries}"));
    let daemon =
        mounted(&lab, "mount -t tmpfs -o size=64k none \"$1/at\"; cp \"$1/config.yaml\" \"$1/domain.yaml\" \"$1/at\"");
    assert!(!sh_at(&lab, &daemon, "cat ../larger >domain.yaml 2>../full"));
    let full = fs::read_to_string(lab.path("full")).unwrap();
    assert!(full.contains("No space left"), "{full}");
    daemon.wait_for("domain.yaml: its last line has no newline");
    sleep(SOON * 4);
    assert_eq!((ask(&lab, NAME).as_str(), ask(&lab, "db.example.org").contains("10.0.0.5")), (OLD, true));
    // After there is room again.
    lab.write("smaller", &DOMAINS.replace(OLD, "10.0.0.2"));
    assert!(sh_at(&lab, &daemon, "cp ../smaller domain.yaml"));
    until_changes(&lab, OLD, "10.0.0.2");
}

#[test]
fn without_inotify_events_two_equal_reads_count() {
    let lab = Lab::new();
    lab.sh("host", "mkdir at; mkdir real; mv config.yaml domain.yaml real; touch at/config.yaml at/domain.yaml");
    // A file that is mounted by itself changes when it is written in its own folder, without an inotify event.
    let daemon = mounted(&lab, "for f in config.yaml domain.yaml; do mount --bind \"$1/real/$f\" \"$1/at/$f\"; done");
    let mut before = OLD.to_owned();
    for i in 1..3 {
        let after = format!("172.16.171.{i}");
        lab.write("real/domain.yaml", &DOMAINS.replace(OLD, &after));
        until_changes(&lab, &before, &after);
        before = after;
    }
    assert_eq!(daemon.log().matches("domain.yaml: inotify does not report its changes").count(), 1, "{}", daemon.log());
    // SIGHUP waits for the second read, because leases report nothing here either.
    lab.sh("host", "chown 65534 real/domain.yaml");
    let mut file = OpenOptions::new().write(true).truncate(true).open(lab.path("real/domain.yaml")).unwrap();
    daemon.signal(Signal::SIGHUP);
    sleep(SOON);
    assert_eq!(ask(&lab, NAME), before);
    file.write_all(DOMAINS.replace(OLD, "172.16.171.3").as_bytes()).unwrap();
    drop(file);
    until_changes(&lab, &before, "172.16.171.3");
    // A half-written line is not used here either.
    let half = DOMAINS.replace(OLD, "172.16.171.2");
    lab.write("real/domain.yaml", &format!("{half}  - Name: new.example.org\n    IP: 10.0.0.1"));
    daemon.wait_for("domain.yaml: its last line has no newline");
    lab.write("real/domain.yaml", &format!("{half}  - Name: new.example.org\n    IP: 10.0.0.100\n"));
    until("the end", || match ask(&lab, "new.example.org") {
        answer if answer == "10.0.0.100" => Ok(()),
        answer => {
            assert!(!answer.starts_with("10."), "{answer}");
            Err(answer)
        }
    });
}

#[test]
fn without_inotify_instances_files_are_polled_until_there_are_some() {
    for (limit, sysctl) in
        [("NO_INSTANCES", "fs.inotify.max_user_instances"), ("NO_WATCHES", "fs.inotify.max_user_watches")]
    {
        let lab = Lab::new();
        lab.write("limit", "");
        let vars = [("LD_PRELOAD", lab.preloaded("noinotify.c")), (limit, lab.path("limit"))];
        let daemon = lab.spawn_with("host", "config.yaml", &vars);
        daemon.wait_for("ready");
        let mut before = OLD.to_owned();
        for i in 1..3 {
            let after = format!("172.16.171.{i}");
            lab.write("domain.yaml", &DOMAINS.replace(OLD, &after));
            until_changes(&lab, &before, &after);
            before = after;
        }
        let log = daemon.log();
        let warnings: Vec<&str> = log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect();
        let [warning] = warnings[..] else { panic!("{log}") };
        assert!(warning.contains(sysctl) && warning.contains("polling for changes instead"), "{warning}");
        // Once inotify works again it is used: a file that is renamed into place is read at once.
        fs::remove_file(lab.path("limit")).unwrap();
        until("inotify is used", || {
            let watches = lab.sh("host", &format!("cat /proc/{}/fdinfo/*", daemon.pid()));
            if watches.contains("inotify wd:") { Ok(()) } else { Err(watches) }
        });
        lab.write("domain.yaml", &DOMAINS.replace(OLD, "10.0.0.9"));
        until_changes(&lab, &before, "10.0.0.9");
    }
}

#[test]
fn a_writer_that_never_closes_is_named_and_changes_nothing() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let mut file = OpenOptions::new().write(true).truncate(true).open(lab.path("domain.yaml")).unwrap();
    file.write_all(DOMAINS.replace(OLD, "10.0.0.1").as_bytes()).unwrap();
    let began = Instant::now();
    daemon.wait_for("domain.yaml: open for writing for 10 s");
    assert!(began.elapsed() >= Duration::from_secs(9));
    assert!(held(&lab)[0].contains("open for writing"), "{:?}", held(&lab));
    assert_eq!(ask(&lab, NAME), OLD);
    // Other files are still followed meanwhile.
    lab.configure("Ifname: veth0\nNetworkDirection: Ingress\nPassNames: [db.example.org]\n");
    daemon.wait_for("reloaded after a changed file");
    assert!(ask(&lab, "db.example.org").contains("no servers"));
    assert_eq!(ask(&lab, NAME), OLD);
    drop(file);
    daemon.wait_for("domain.yaml: no longer open for writing");
    until_changes(&lab, OLD, "10.0.0.1");
    assert!(held(&lab).is_empty());
}

#[test]
fn a_file_that_shrinks_has_to_stay_unchanged() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    // Truncated by one process, which closes it, and written by another.
    let began = Instant::now();
    for _ in 0..4 {
        lab.sh("host", ": >domain.yaml; sleep 0.3; printf 'Domains:\\n' >domain.yaml; sleep 0.3");
        assert_eq!(ask(&lab, NAME), OLD, "after {:?}", began.elapsed());
    }
    lab.write("domain.yaml", &DOMAINS.replace(OLD, "10.0.0.1"));
    until_changes(&lab, OLD, "10.0.0.1");
    // A list that is empty on purpose.
    lab.write("domain.yaml", "Domains: []\n");
    daemon.wait_for(": 0 names");
}

#[test]
fn a_half_written_config_is_not_used() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let ttl = |wanted: &str| lab.dig(&format!("@{SERVER} {NAME}")).contains(&format!("{NAME}.\t{wanted}\tIN"));
    let mut file = OpenOptions::new().append(true).open(lab.path("config.yaml")).unwrap();
    file.write_all(b"TTL: 7").unwrap();
    sleep(SOON * 4);
    assert!(ttl("30"));
    drop(file);
    daemon.wait_for("config.yaml: its last line has no newline");
    assert!(ttl("30"));
    lab.sh("host", "printf '0\\n' >>config.yaml");
    until("the new TTL", || if ttl("70") { Ok(()) } else { Err(daemon.log()) });
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}

#[test]
fn ifname_that_is_cleared_changes_nothing() {
    let lab = Lab::new();
    lab.veth(("host", "out0"), ("pod", "out1"));
    lab.ip("host", "route add default dev out0");
    let daemon = lab.daemon();
    for (i, ifname) in ["Ifname: []", "Ifname:", "Ifname: ''", "# Ifname: veth0"].into_iter().enumerate() {
        lab.configure(&format!("{ifname}\nNetworkDirection: Ingress\nTTL: {}\n", 40 + i));
        until("it is refused", || match daemon.log().matches("Ifname: is empty").count() {
            n if n == i + 1 => Ok(()),
            n => Err(n.to_string()),
        });
        assert!(lab.dig(&format!("@{SERVER} {NAME}")).contains(&format!("{NAME}.\t30\tIN")));
    }
    assert_eq!(lab.tcx_programs("host", "out0") + lab.filters("host", "out0"), 0);
    lab.configure("Ifname: veth0\nNetworkDirection: Ingress\n");
    daemon.wait_for("reloaded after a changed file");
}

/// Starts the daemon. Returns it with the time until it was ready.
fn start(lab: &Lab) -> (Daemon, Duration) {
    let began = Instant::now();
    let daemon = lab.daemon();
    (daemon, began.elapsed())
}

#[test]
fn a_start_waits_for_a_file_that_is_being_written() {
    let lab = Lab::new();
    let whole = DOMAINS.replace(OLD, "10.0.0.100");
    let (half, rest) = whole.split_at(whole.find("10.0.0.1").unwrap() + "10.0.0.1".len());
    for text in [half, "Domains:\n"] {
        let rest = if text == half { rest } else { whole.strip_prefix(text).unwrap() };
        let mut file = fs::File::create(lab.path("domain.yaml")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_secs(2));
                file.write_all(rest.as_bytes()).unwrap();
                drop(file);
            });
            let (_daemon, took) = start(&lab);
            assert!(took > Duration::from_millis(1500), "{took:?}");
            assert_eq!(ask(&lab, NAME), "10.0.0.100");
        });
    }
}

#[test]
fn a_start_uses_an_old_file_without_a_final_newline() {
    let lab = Lab::new();
    lab.write("domain.yaml", &format!("Domains:\n  - Name: {NAME}\n    IP: 10.0.0.1"));
    age(&lab, "domain.yaml", 6);
    let (daemon, took) = start(&lab);
    assert!(took > Duration::from_secs(2), "{took:?}");
    assert!(daemon.log().contains("domain.yaml: its last line has no newline"), "{}", daemon.log());
    assert_eq!(daemon.log().matches("domain.yaml: waiting for its writer").count(), 1, "{}", daemon.log());
    assert_eq!(ask(&lab, NAME), "10.0.0.1");
    drop(daemon);
    // An older file is used at once, without a warning.
    age(&lab, "domain.yaml", 20);
    let (daemon, _) = start(&lab);
    assert!(!daemon.log().contains("its last line") && !daemon.log().contains("waiting for"), "{}", daemon.log());
    assert_eq!(ask(&lab, NAME), "10.0.0.1");
}

#[test]
fn a_start_while_a_file_keeps_changing_is_exit_status_2() {
    for name in ["domain.yaml", "config.yaml"] {
        let lab = Lab::new();
        let mut file = OpenOptions::new().append(true).open(lab.path(name)).unwrap();
        let mut daemon = lab.spawn("host", "config.yaml");
        let status = std::thread::scope(|scope| {
            let status = scope.spawn(|| daemon.wait());
            while !status.is_finished() {
                file.write_all(b"# more\n").unwrap();
                sleep(Duration::from_millis(50));
            }
            status.join().unwrap()
        });
        assert_eq!(status, Some(2));
        let log = daemon.log();
        assert!(log.contains(&format!("{name}: keeps changing")), "{log}");
    }
}
