//! Checks whether IPVS has services in this network namespace.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::Path;

/// The file in which IPVS lists its services.
const SERVICES: &str = "/proc/thread-self/net/ip_vs";
/// Number of header lines before the first service.
const HEAD: usize = 3;

/// Whether IPVS lists a service, or may: true also if the list can't be read.
pub(super) fn is_in_use() -> bool {
    lists_a_service(Path::new(SERVICES))
}

fn lists_a_service(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => BufReader::new(file).lines().nth(HEAD).is_some(),
        // Without the file the kernel has no IPVS, unless /proc is not mounted.
        Err(e) if e.kind() == ErrorKind::NotFound => path.parent().is_none_or(|proc_net| !proc_net.exists()),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
                         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

    #[test]
    fn ipvs_is_in_use_if_it_lists_a_service_or_cannot_be_read() {
        let dir = std::env::temp_dir().join(format!("edns-ipvs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("ip_vs");
        assert!(!lists_a_service(&file), "the kernel has no IPVS");
        assert!(lists_a_service(&dir.join("no/ip_vs")), "no /proc");
        assert!(lists_a_service(&dir), "unreadable");
        std::fs::write(&file, EMPTY).unwrap();
        assert!(!lists_a_service(&file), "no service");
        std::fs::write(&file, format!("{EMPTY}UDP  0A60000A:0035 rr\n")).unwrap();
        assert!(lists_a_service(&file), "a service");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
