//! Watches that make no progress.

use super::*;

/// Asserts that lists replace a watch that makes no progress: the first one soon, and in the long run a few per minute.
async fn assert_relisted(case: &str, watch: impl Fn(usize) -> Reply + Send + Sync + 'static) {
    let followed = follow(HOUR, move |request, earlier| changing_cluster(request, earlier, watch(earlier))).await;
    let lists = followed.times(Request::List);
    assert!(lists[1] < MINUTE, "{case}: {lists:?}");
    let new = |(_, delta): &&(Duration, Delta<Named>)| *delta == all(&["new"]);
    assert!(followed.deltas.iter().any(|d| new(&d)), "{case}");
    // One per 15 s on average, or fewer where several failures precede each.
    assert!((60..=500).contains(&lists.len()), "{case}: {}", lists.len());
    assert!(followed.errors() > 0, "{case}");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_always_too_old() {
    assert_relisted("410", |_| Reply::Status(410)).await;
    assert_relisted("410 in the stream", |_| Reply::Closed(event("ERROR", &status(410)))).await;
    assert_relisted("410 in a stream that stays open", |_| Reply::Open(event("ERROR", &status(410)))).await;
    assert_relisted("410 as text", |_| Reply::Closed(format!("{}\n", status(410)))).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_always_fails() {
    assert_relisted("500", |_| Reply::Status(500)).await;
    assert_relisted("500 in the stream", |_| Reply::Closed(event("ERROR", &status(500)))).await;
    assert_relisted("500 in a stream that stays open", |_| Reply::Open(event("ERROR", &status(500)))).await;
    assert_relisted("half an event", |_| Reply::Closed(event("DELETED", &object("old", 12))[..40].into())).await;
    assert_relisted("not an event", |_| Reply::Closed("\"nonsense\"\n".into())).await;
    assert_relisted("an empty watch", |_| Reply::Closed(String::new())).await;
    // The API server responds to lists, but refuses all further watches.
    assert_relisted("refused", |earlier| if earlier == 0 { Reply::Closed("\"x\"\n".into()) } else { Reply::Refused })
        .await;
}

#[tokio::test(start_paused = true)]
async fn lists_alone_do_not_re_establish_the_watch() {
    let fails = |earlier| match earlier {
        0..200 => Reply::Status(500),
        // This watch ends too early to count as established.
        200..300 => Reply::Closed("\"nonsense\"\n".into()),
        _ => Reply::Open(String::new()),
    };
    let followed = follow(HOUR, move |request, earlier| match request {
        Request::Probe => Reply::Objects(&[("new", 9999)], 9999),
        _ => changing_cluster(request, earlier, fails(earlier)),
    })
    .await;
    let watches = followed.times(Request::Watch);
    let [reestablished] = followed.reestablished[..] else { panic!("{:?}", followed.reestablished) };
    let lived = reestablished - watches[300];
    assert!((500..1500).contains(&lived.as_millis()), "{lived:?}");
    // There were lists meanwhile, and each was current for a moment.
    assert!(followed.api.count(Request::List) > 20);
    assert!(followed.broken < MINUTE, "{:?}", followed.broken);
    assert_eq!(followed.health.state(Kind::Services).broken, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_repeats_known_events() {
    let half = event("DELETED", &object("old", 12))[..40].to_owned();
    for (case, known) in [
        ("an event", event("MODIFIED", &object("old", 11))),
        ("an older event", event("ADDED", &object("old", 6))),
        ("an older bookmark", event("BOOKMARK", &object("", 5))),
    ] {
        let text = known + &half;
        assert_relisted(case, move |_| Reply::Closed(text.clone())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_replace_a_failing_watch_however_long_it_lasts() {
    let (second, error) = (Duration::from_secs(1), event("ERROR", &status(500)));
    for (case, after, text, fails, latest) in [
        ("500 after a while", 35 * second, error, false, 80 * second),
        ("ends soon", 3 * second / 2, String::new(), false, 45 * second),
    ] {
        let watch = move || Reply::Delayed { after, text: text.clone(), times: 1, fails };
        let followed = follow(HOUR, move |request, earlier| changing_cluster(request, earlier, watch())).await;
        let lists = followed.times(Request::List);
        assert!(lists[1] < latest, "{case}: {lists:?}");
        assert!((20..=500).contains(&lists.len()), "{case}: {}", lists.len());
        assert!(followed.deltas.iter().any(|(_, d)| *d == all(&["new"])), "{case}");
    }
}
