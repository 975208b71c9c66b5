//! Watches that deliver nothing.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_resumed_and_is_no_failure() {
    let followed = follow(HOUR, |request, _| idle_cluster(request, Reply::Open(String::new()))).await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    assert!(followed.silent < Duration::from_secs(105), "{:?}", followed.silent);
    // One every 100 s, from the last version.
    let watches = followed.api.count(Request::Watch);
    assert!((36..=39).contains(&watches), "{watches}");
    let requests = followed.api.requests.lock().unwrap();
    let mut watches = requests.iter().filter(|(_, request, _)| *request == Request::Watch);
    assert!(watches.all(|(_, _, uri)| uri.contains("resourceVersion=10")), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn silent_watches_lead_to_lists_at_growing_intervals() {
    let followed = follow(10 * HOUR, |request, _| idle_cluster(request, Reply::Open(String::new()))).await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    let lists = followed.times(Request::List);
    assert!((11..=14).contains(&lists.len()), "{lists:?}");
    for (pair, minutes) in lists.windows(2).zip([5, 10, 20, 40, 60, 60, 60]) {
        let (took, wanted) = ((pair[1] - pair[0]).as_secs_f64(), f64::from(minutes * 60));
        assert!((wanted * 0.89..=wanted * 1.11).contains(&took), "{lists:?}");
    }
    // A Service is deleted or created every half an hour, and no watch delivers it.
    let start = Instant::now();
    let followed = follow(10 * HOUR, move |request, _| match request {
        Request::List if start.elapsed().as_secs() / 1800 % 2 == 1 => Reply::Objects(&[], 10),
        _ => idle_cluster(request, Reply::Open(String::new())),
    })
    .await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    let lists = followed.times(Request::List);
    assert!((50..=90).contains(&lists.len()), "{lists:?}");
    let longest = lists.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < 25 * MINUTE, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_a_bookmark_now_and_then_leads_to_few_lists() {
    // One bookmark in ten minutes, and silent watches between.
    let bookmark = event("BOOKMARK", &object("", 10));
    let watch = move |earlier: usize| Reply::Open(if earlier % 6 == 5 { bookmark.clone() } else { String::new() });
    let followed = follow(10 * HOUR, move |request, earlier| idle_cluster(request, watch(earlier))).await;
    let lists = followed.times(Request::List);
    assert!((58..=75).contains(&lists.len()), "{}", lists.len());
    // With a bookmark in every second watch there is no further list.
    let followed = follow(10 * HOUR, |request, earlier| {
        let text = if earlier % 2 == 1 { event("BOOKMARK", &object("", 10)) } else { String::new() };
        idle_cluster(request, Reply::Open(text))
    })
    .await;
    assert_eq!((followed.api.count(Request::List), followed.errors()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_bookmark_comes_before_a_list() {
    let (second, bookmark) = (Duration::from_secs(1), event("BOOKMARK", &object("", 10)));
    let start = Instant::now();
    let followed = follow(2 * HOUR, move |request, earlier| {
        let text = bookmark.clone();
        match request {
            _ if (MINUTE..HOUR).contains(&start.elapsed()) => Reply::Refused,
            Request::Watch if earlier == 0 => Reply::Delayed { after: 60 * second, text, times: 1, fails: true },
            _ => idle_cluster(request, Reply::Delayed { after: 60 * second, text, times: 4, fails: false }),
        }
    })
    .await;
    assert!(followed.errors() > 100);
    assert_eq!(followed.api.count(Request::List), 1);
}

#[tokio::test(start_paused = true)]
async fn watches_that_a_proxy_ends_when_idle_count_as_silent() {
    let second = Duration::from_secs(1);
    for (after, fails) in [(20, true), (35, true), (35, false), (60, true), (60, false)] {
        let after = after * second;
        let watch = move || Reply::Delayed { after, text: String::new(), times: 1, fails };
        let followed = follow(10 * HOUR, move |request, _| idle_cluster(request, watch())).await;
        assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO), "{after:?}");
        assert!(!followed.health.is_recovering(Kind::Services) && followed.silent < 2 * MINUTE);
        // From the same version, without backoff.
        let watches = followed.api.count(Request::Watch);
        let wanted = (10 * HOUR).as_secs() as usize / after.as_secs() as usize;
        assert!((wanted * 9 / 10..=wanted + 10).contains(&watches), "{watches} {wanted}");
        let listed = followed.times(Request::List);
        assert!((11..=14).contains(&listed.len()), "{after:?}: {listed:?}");
        // A list finds the change that no watch delivers.
        let followed = follow(MINUTE * 6, move |request, earlier| changing_cluster(request, earlier, watch())).await;
        assert!(followed.deltas.iter().any(|(_, d)| *d == all(&["new"])), "{after:?}");
        // The next watch delivers an event from the time between watches.
        let followed = follow(2 * MINUTE, move |request, earlier| match request {
            Request::Watch if earlier == 1 => Reply::Open(event("DELETED", &object("old", 12))),
            _ => idle_cluster(request, watch()),
        })
        .await;
        assert!(matches!(followed.deltas[..], [(_, Delta::Reset(..)), (_, Delta::Delete(_))]), "{:?}", followed.deltas);
    }
    // A watch that ends sooner has failed.
    for fails in [false, true] {
        let watch = move || Reply::Delayed { after: 19 * second, text: String::new(), times: 1, fails };
        let followed = follow(10 * MINUTE, move |request, _| idle_cluster(request, watch())).await;
        assert!(followed.errors() > 10 && followed.api.count(Request::List) > 5, "{}", followed.errors());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_bookmarks_needs_no_list_even_if_it_fails() {
    let bookmark = event("BOOKMARK", &object("", 10));
    for fails in [false, true] {
        let text = bookmark.clone();
        let watch = move || Reply::Delayed { after: MINUTE, text: text.clone(), times: 5, fails };
        let followed = follow(HOUR, move |request, earlier| changing_cluster(request, earlier, watch())).await;
        assert_eq!(followed.api.count(Request::List), 1);
        assert_eq!(followed.errors() > 0, fails);
    }
}
