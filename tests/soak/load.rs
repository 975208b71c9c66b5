//! dnsperf in the pod, for names that stay while everything around them changes. Each is found, and no query is lost.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::cluster::DNS;
use crate::lab::Lab;

/// Queries a second, few enough to leave processor time to the rest.
const RATE: u32 = 4000;

pub struct Load(Child);

pub fn start(lab: &Lab, time: Duration) -> Load {
    lab.write(
        "queries",
        "web.default.svc.cluster.local A\nweb.default.svc.cluster.local AAAA\n_http._tcp.web.default.svc.cluster.local SRV\n\
         db.default.svc.cluster.local A\ndual.default.svc.cluster.local AAAA\nalias2.default.svc.cluster.local A\n\
         api.team.svc.cluster.local A\n",
    );
    let child = lab
        .command("pod", "dnsperf")
        .args(["-s", DNS, "-d", "queries", "-c2", "-l", &time.as_secs().to_string(), "-Q", &RATE.to_string()])
        .current_dir(&lab.dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Load(child)
}

impl Load {
    /// Waits for its end.
    ///
    /// # Panics
    /// If a query was lost or a name not found.
    pub fn check(self) {
        let output = self.0.wait_with_output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        let codes = report.lines().find(|l| l.contains("Response codes:")).unwrap_or_default();
        let found = codes.contains("NOERROR") && codes.contains("(100.00%)") && !codes.contains(',');
        let lost = !report.contains("Queries lost:         0 (0.00%)");
        assert!(found && !lost, "dnsperf: {report}{}", String::from_utf8_lossy(&output.stderr));
    }
}
