//! Watches that resume after an end or an outage.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_watch_after_a_silent_one_delivers_what_happened() {
    let followed = follow(3 * MINUTE, |request, earlier| {
        let text = if earlier == 1 { event("DELETED", &object("old", 12)) } else { String::new() };
        changing_cluster(request, earlier, Reply::Open(text))
    })
    .await;
    assert_eq!(followed.errors(), 0);
    let [(_, Delta::Reset(..)), (at, Delta::Delete(name))] = &followed.deltas[..] else {
        panic!("{:?}", followed.deltas)
    };
    assert!(name == "old" && (100..102).contains(&at.as_secs()), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn resuming_on_an_unresponsive_server_fails_after_15_s() {
    for silent in [Request::Probe, Request::Watch] {
        let followed = follow(Duration::from_secs(118), move |request, earlier| match request {
            _ if request == silent && (request == Request::Probe || earlier > 0) => Reply::NoResponse,
            _ => changing_cluster(request, earlier, Reply::Open(String::new())),
        })
        .await;
        assert_eq!(followed.errors(), 1, "{silent:?}");
        assert!((2..=3).contains(&followed.broken.as_secs()), "{:?}", followed.broken);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_new_events_needs_no_list_even_if_it_fails() {
    let version = |earlier| 100 + earlier as u64;
    let half = event("DELETED", &object("old", 12))[..40].to_owned();
    let followed = follow(10 * MINUTE, move |request, earlier| match request {
        Request::List => Reply::Objects(&[("old", 7)], 10),
        Request::Probe => Reply::Closed(list(&[("old", version(earlier))], version(earlier))),
        Request::Watch => Reply::Closed(event("MODIFIED", &object("old", version(earlier))) + &half),
    })
    .await;
    assert!(followed.errors() > 50, "{}", followed.errors());
    assert_eq!(followed.api.count(Request::List), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_api_server_gets_no_list_requests() {
    for reply in [|| Reply::Refused, || Reply::Status(403), || Reply::Status(401)] {
        let followed = follow(HOUR / 2, move |request, earlier| match request {
            Request::List => changing_cluster(request, earlier, Reply::Refused),
            Request::Watch if earlier == 0 => Reply::Open(String::new()),
            _ => reply(),
        })
        .await;
        assert_eq!(followed.api.count(Request::List), 1);
        // The backoff grows to 8 s.
        assert!((300..=700).contains(&followed.errors()), "{}", followed.errors());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_from_its_version_after_an_outage() {
    let followed = follow(7 * MINUTE, move |request, earlier| match request {
        Request::List => changing_cluster(request, earlier, Reply::Refused),
        Request::Probe if earlier < 20 => Reply::Refused,
        Request::Probe if earlier == 20 => Reply::Objects(&[("old", 7)], 15),
        Request::Probe => Reply::Objects(&[], 15),
        Request::Watch if earlier == 1 => Reply::Open(event("DELETED", &object("old", 12))),
        Request::Watch => Reply::Open(String::new()),
    })
    .await;
    assert_eq!(followed.api.count(Request::List), 1);
    assert!(matches!(followed.deltas[..], [(_, Delta::Reset(..)), (_, Delta::Delete(_))]), "{:?}", followed.deltas);
    assert_eq!((followed.errors(), followed.health.is_recovering(Kind::Services)), (20, false));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_last_object_leads_to_a_list_and_is_no_failure() {
    let followed = follow(3 * MINUTE, |request, earlier| match request {
        Request::Probe => Reply::Objects(&[], 15),
        _ => changing_cluster(request, earlier, Reply::Open(String::new())),
    })
    .await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    assert_eq!(followed.api.count(Request::List), 2);
}
