//! Lists: on request, in pages, in parts, and with objects that are too long.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_requested_list_is_no_failure() {
    let (second, rule) =
        (Duration::from_secs(1), |request, earlier| changing_cluster(request, earlier, Reply::Open(String::new())));
    // Two requests lead to one list.
    let followed = follow_and_relist(MINUTE, [10 * second, 10 * second], rule).await;
    let lists = followed.times(Request::List);
    assert!(lists.len() == 2 && (10..12).contains(&lists[1].as_secs()), "{lists:?}");
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    assert_eq!(followed.deltas[1].1, all(&["new"]));
}

#[tokio::test(start_paused = true)]
async fn endless_list_requests_keep_the_backoff_and_the_watch_continues() {
    let second = Duration::from_secs(1);
    let text = event("MODIFIED", &object("new", 90));
    let watch = move || Reply::Delayed { after: second, text: text.clone(), times: 3600, fails: false };
    let relist_at = (0..3600).map(|i| i * second);
    let followed =
        follow_and_relist(HOUR, relist_at, move |request, earlier| changing_cluster(request, earlier, watch())).await;
    let lists = followed.api.count(Request::List);
    assert!((150..=400).contains(&lists), "{lists}");
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    let events = followed.deltas.iter().filter(|(_, delta)| matches!(delta, Delta::Apply(_))).count();
    assert!(events > 3000, "{events}");
}

#[tokio::test(start_paused = true)]
async fn a_list_in_progress_fulfills_a_request() {
    let second = Duration::from_secs(1);
    let text = list(&[("new", 12)], 20);
    let slow = move |request, _| match request {
        Request::List => Reply::Delayed { after: 10 * second, text: text.clone(), times: 1, fails: false },
        _ => Reply::Open(String::new()),
    };
    let followed = follow_and_relist(MINUTE, [second, 5 * second], slow).await;
    assert_eq!((followed.api.count(Request::List), followed.errors()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_too_long_is_retried_with_fewer_objects() {
    for (count, octets, limits) in [
        (600, 1000, "500 500, 500 500"),
        // All objects in one page would be too long as well.
        (60, TEXT_MAX / 40, "500 125 31 31, 31 31"),
        (2, TEXT_MAX * 9 / 10, "500 125 31 7 1 1, 1 1"),
    ] {
        let followed = follow_and_relist(MINUTE / 6, [MINUTE / 12], move |request, _| match request {
            // Two lists, as the limit stays.
            Request::List => Reply::Pages(count, octets),
            _ => Reply::Open(String::new()),
        })
        .await;
        assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
        let requests = followed.api.requests.lock().unwrap();
        let lists = requests.iter().filter(|(_, request, _)| *request == Request::List);
        let uris: Vec<&str> = lists.map(|(_, _, uri)| &**uri).collect();
        let limits_of = |uris: &[&str]| {
            uris.iter().map(|uri| parameter(uri, "limit").unwrap().to_string()).collect::<Vec<_>>().join(" ")
        };
        let (first, second) = limits.split_once(", ").unwrap();
        let (a, b) = uris.split_at(first.split(' ').count());
        assert_eq!((&*limits_of(a), &*limits_of(&b[..second.split(' ').count()])), (first, second));
        // Every object arrives once.
        let names: Vec<Named> = (0..count).map(|i| Named(format!("s{i}"))).collect();
        assert!(followed.deltas.len() > 1);
        let is_whole_list =
            |delta: &_| matches!(delta, Delta::Reset(list, part) if part.is_first && part.is_last && *list == names);
        assert!(followed.deltas.iter().all(|(_, delta)| is_whole_list(delta)), "{count}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_longer_than_a_page_fails_every_list() {
    let followed = follow(2 * MINUTE, |request, _| match request {
        Request::List => Reply::Pages(1, TEXT_MAX),
        _ => Reply::Refused,
    })
    .await;
    assert!(followed.deltas.is_empty());
    // At the backoff of lists, like any list that fails.
    assert!((5..=30).contains(&followed.errors()), "{:?}", followed.times(Request::List));
    assert_eq!(followed.api.count(Request::List) as u64, followed.errors() + 4);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_long_leads_to_a_list() {
    let long = |earlier| Reply::Open(if earlier < 5 { "x".repeat(TEXT_MAX + 1) } else { String::new() });
    let followed = follow(MINUTE, move |request, earlier| changing_cluster(request, earlier, long(earlier))).await;
    let lists = followed.times(Request::List);
    assert!(lists.len() == 2 && lists[1] < MINUTE / 2, "{lists:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_parts() {
    let objects: &[_] = &[("large-a", 1), ("large-b", 2), ("large-c", 3), ("large-d", 4), ("small", 5)];
    let followed = follow(MINUTE, move |request, _| match request {
        Request::List => Reply::Objects(objects, 10),
        Request::Probe => Reply::Objects(&[("small", 5)], 15),
        Request::Watch => Reply::Open(String::new()),
    })
    .await;
    let deltas: Vec<_> = followed.deltas.into_iter().map(|(_, delta)| delta).collect();
    let expected = [
        part(&["large-a", "large-b"], true, false),
        part(&["large-c", "large-d"], false, false),
        part(&["small"], false, true),
    ];
    assert_eq!(deltas, expected);
}
