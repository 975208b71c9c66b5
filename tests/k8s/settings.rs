//! `NegativeAnswers` and `PassNames`.

use hickory_proto::rr::RecordType::{A, AAAA, MX, SRV};

use crate::node::Node;

#[test]
fn without_negative_answers_only_existing_names_are_answered() {
    let node = Node::shared();
    node.configure("NegativeAnswers: false\n");
    let _daemon = node.daemon();
    let client = node.pod();
    for (name, rtype, rcode, answered) in [
        ("web.default.svc", A, "NoError", true),
        ("web.default.svc", SRV, "NoError", true),
        ("_http._tcp.web.default.svc", SRV, "NoError", true),
        ("db-0.db.default.svc", AAAA, "NoError", true),
        ("web.default.svc", AAAA, "NoError", false),
        ("web.default.svc", MX, "NoError", false),
        ("default.svc", A, "NoError", false),
        ("svc", A, "NoError", false),
        ("nobody.default.svc", A, "NXDomain", false),
        ("x.web.default.svc", A, "NXDomain", false),
        ("www.example.org", A, "NXDomain", false),
        ("none.default.svc", A, "NXDomain", false),
    ] {
        let (reply, in_kernel) = node.ask(&client, &format!("{name}.cluster.local"), rtype);
        assert_eq!((&*reply.rcode, in_kernel), (rcode, answered), "{name} {rtype}");
    }
    assert_eq!(node.lab.counts(&["nodata", "nxdomain"]), 0);
}

#[test]
fn pass_names_pass_also_if_they_exist() {
    let node = Node::shared();
    node.configure(
        "PassNames: [web.default.svc.cluster.local, '*.team.svc.cluster.local', nobody.default.svc.cluster.local]\n",
    );
    let _daemon = node.daemon();
    let client = node.pod();
    for (name, rcode, answered) in [
        ("web.default.svc", "NoError", false),
        ("WEB.default.svc", "NoError", false),
        ("nobody.default.svc", "NXDomain", false),
        ("api.team.svc", "NoError", false),
        ("x.y.team.svc", "NXDomain", false),
        ("team.svc", "NoError", true),
        ("_http._tcp.web.default.svc", "NoError", true),
        ("x.web.default.svc", "NXDomain", true),
        ("x.nobody.default.svc", "NXDomain", false),
        ("somebody.default.svc", "NXDomain", true),
        ("db.default.svc", "NoError", true),
        // A chain of aliases may end at another server.
        ("alias.default.svc", "NoError", false),
    ] {
        let (reply, in_kernel) = node.ask(&client, &format!("{name}.cluster.local"), A);
        assert_eq!((&*reply.rcode, in_kernel), (rcode, answered), "{name}");
    }
    // Both settings can change while the daemon runs.
    node.configure("PassNames: [db.default.svc.cluster.local]\nNegativeAnswers: false\n");
    crate::lab::within(20, "the change", || match node.ask(&client, "db.default.svc.cluster.local", A).1 {
        false => Ok(()),
        true => Err("db is answered".into()),
    });
    assert!(node.ask(&client, "web.default.svc.cluster.local", A).1);
    assert!(!node.ask(&client, "somebody.default.svc.cluster.local", A).1);
}
