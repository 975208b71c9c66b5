//! The watch of Services beside an API server that is pretended, in time that passes by itself.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::sync::mpsc::channel;
use tower::util::BoxCloneService;
use tower::{BoxError, service_fn};

use super::*;
use crate::source::kubernetes::again::Again;
use crate::source::kubernetes::client::{AccessError, Connection, Response};
use crate::source::kubernetes::pages::TEXT_MAX;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What is asked of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    List,
    Watch,
    /// See [`Past::question`].
    Past,
}

/// What it replies.
enum Reply {
    /// Nobody is there.
    Refused,
    /// Nobody answers.
    Silence,
    /// An error of this code.
    Code(u16),
    /// These objects, by name and version, as of a version.
    Objects(&'static [(&'static str, u64)], u64),
    /// So many objects of so many octets, in the pages that are asked for.
    Pages(usize, usize),
    /// Such text, and then its end.
    Ends(String),
    /// Such text, and then nothing.
    Stays(String),
    /// Nothing for so long, then such text, as often as that, and then its end or an error.
    Late { after: Duration, text: String, times: usize, breaks: bool },
}

/// The API server: its rule says what it replies to what, the how-manyth time that it is asked for that.
#[derive(Clone)]
struct Pretended {
    rule: Arc<dyn Fn(Asked, usize) -> Reply + Send + Sync>,
    asked: Arc<Mutex<Vec<(Instant, Asked, String)>>>,
}

/// The value of a query's parameter.
fn parameter(uri: &str, name: &str) -> Option<usize> {
    uri.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')).map(|value| value.parse().unwrap())
}

impl Pretended {
    fn reply(&self, uri: &http::Uri) -> Reply {
        let query = uri.query().unwrap_or_default();
        let what = if query.contains("watch=true") {
            Asked::Watch
        } else if query.contains("fieldSelector") || query == "limit=1" {
            Asked::Past
        } else {
            Asked::List
        };
        let mut asked = self.asked.lock().unwrap();
        let before = asked.iter().filter(|(_, asked, _)| *asked == what).count();
        asked.push((Instant::now(), what, uri.to_string()));
        (self.rule)(what, before)
    }

    fn count(&self, what: Asked) -> usize {
        self.asked.lock().unwrap().iter().filter(|(_, asked, _)| *asked == what).count()
    }
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "so it is",
        "reason": "Because", "code": code})
}

fn object(name: &str, version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": version.to_string()}})
}

fn list(objects: &[(&str, u64)], version: u64) -> String {
    let items: Vec<Value> = objects.iter().map(|(name, version)| object(name, *version)).collect();
    let metadata = json!({"resourceVersion": version.to_string()});
    json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": metadata, "items": items}).to_string()
}

/// A page of a list as of version 30.
fn page(uri: &str, count: usize, octets: usize) -> String {
    let from = parameter(uri, "continue").unwrap_or_default();
    let to = count.min(from + parameter(uri, "limit").unwrap());
    let long = format!(r#""metadata":{{"annotations":{{"long":"{}"}},"#, "x".repeat(octets));
    let item = |i: usize| object(&format!("s{i}"), 10 + i as u64).to_string().replace(r#""metadata":{"#, &long);
    let items: Vec<String> = (from..to).map(item).collect();
    let next = (to < count).then(|| to.to_string());
    let metadata = json!({"resourceVersion": "30", "continue": next});
    format!(r#"{{"apiVersion":"v1","kind":"ServiceList","metadata":{metadata},"items":[{}]}}"#, items.join(","))
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn respond(code: u16, text: String, ends: bool) -> Response {
    let text = stream::iter([Ok(Frame::data(Bytes::from(text)))]);
    let end = stream::once(async move { if ends { None } else { std::future::pending().await } });
    let body = StreamBody::new(text.map(Some).chain(end).filter_map(std::future::ready));
    http::Response::builder().status(code).body(body.boxed_unsync()).unwrap()
}

fn respond_late(after: Duration, text: String, times: usize, breaks: bool) -> Response {
    let pieces = stream::iter(0..times).then(move |_| {
        let text = Bytes::from(text.clone());
        async move {
            sleep(after).await;
            Ok(Frame::data(text))
        }
    });
    let end = stream::once(async move { breaks.then(|| Err(BoxError::from("reset"))) }).filter_map(std::future::ready);
    http::Response::new(StreamBody::new(pieces.chain(end)).boxed_unsync())
}

impl Way for Pretended {
    async fn connect(&self) -> Result<Connection, AccessError> {
        let this = self.clone();
        let serve = move |request: http::Request<kube::client::Body>| {
            let uri = request.uri().to_string();
            let reply = this.reply(request.uri());
            async move {
                match reply {
                    Reply::Refused => Err(BoxError::from("refused")),
                    Reply::Silence => std::future::pending().await,
                    Reply::Code(code) => Ok(respond(code, status(code).to_string(), true)),
                    Reply::Objects(objects, version) => Ok(respond(200, list(objects, version), true)),
                    Reply::Pages(count, octets) => Ok(respond(200, page(&uri, count, octets), true)),
                    Reply::Ends(text) => Ok(respond(200, text, true)),
                    Reply::Stays(text) => Ok(respond(200, text, false)),
                    Reply::Late { after, text, times, breaks } => Ok(respond_late(after, text, times, breaks)),
                }
            }
        };
        Ok(BoxCloneService::new(service_fn(serve)))
    }

    fn authority(&self) -> Option<String> {
        None
    }

    fn server_name(&self) -> String {
        "the test".into()
    }
}

/// What became of it.
struct Followed {
    api: Pretended,
    health: Arc<Health>,
    start: Instant,
    /// When what came.
    deltas: Vec<(Duration, Delta<String, String>)>,
    /// The longest silence that there was, by [`Health`], and for how long the watch was broken at most.
    silent: Duration,
    broken: Duration,
    /// When it was in touch again.
    settled: Vec<Duration>,
}

/// Follows Services for some time.
async fn follow(time: Duration, rule: impl Fn(Asked, usize) -> Reply + Send + Sync + 'static) -> Followed {
    follow_and_ask(time, [], rule).await
}

/// The same, and asks for lists at these times.
async fn follow_and_ask(
    time: Duration,
    asks: impl IntoIterator<Item = Duration>,
    rule: impl Fn(Asked, usize) -> Reply + Send + Sync + 'static,
) -> Followed {
    let (again, mut asks) = (Again::default(), asks.into_iter().peekable());
    let api = Pretended { rule: Arc::new(rule), asked: Arc::default() };
    let health = Arc::new(Health::default());
    let (sender, mut news) = channel(16);
    let name = |service: &Service| service.metadata.name.clone().unwrap();
    let watch = Watch {
        kind: Kind::Services,
        asked: again.asked(Kind::Services),
        stream: |client| watcher(Api::<Service>::all(client), watcher::Config::default()).boxed(),
        convert: |service: Service| service.metadata.name.unwrap(),
        key: name,
        size: |name: &String| if name.starts_with("large") { PART / 2 } else { 1 },
        room: Room::default(),
    };
    let task = tokio::spawn(watch.follow((api.clone(), Arc::clone(&health), sender), |news| news));
    let start = Instant::now();
    let mut followed = Followed {
        api,
        health,
        start,
        deltas: Vec::new(),
        silent: Duration::ZERO,
        broken: Duration::ZERO,
        settled: Vec::new(),
    };
    while start.elapsed() < time {
        while asks.next_if(|at| *at <= start.elapsed()).is_some() {
            again.ask(Kind::Services);
        }
        tokio::select! {
            Some(news) = news.recv() => {
                let News { delta, mend, .. } = news;
                followed.deltas.extend(delta.map(|delta| (start.elapsed(), delta)));
                let was_unsettled = followed.health.is_unsettled(Kind::Services);
                mend.iter().for_each(|mend| followed.health.mended(mend));
                if was_unsettled && !followed.health.is_unsettled(Kind::Services) {
                    followed.settled.push(start.elapsed());
                }
            }
            () = sleep(Duration::from_millis(500)) => {}
        }
        let state = followed.health.state(Kind::Services);
        followed.silent = followed.silent.max(state.silent);
        followed.broken = followed.broken.max(state.broken.unwrap_or_default());
    }
    task.abort();
    followed
}

impl Followed {
    fn errors(&self) -> u64 {
        self.health.state(Kind::Services).errors
    }

    /// When something was asked for, since the start.
    fn times(&self, what: Asked) -> Vec<Duration> {
        let asked = self.api.asked.lock().unwrap();
        asked.iter().filter(|(_, asked, _)| *asked == what).map(|(at, _, _)| *at - self.start).collect()
    }
}

/// An API server that lists one object, then another, and otherwise follows a rule.
fn lists(what: Asked, before: usize, watch: Reply) -> Reply {
    match what {
        Asked::List if before == 0 => Reply::Objects(&[("old", 7)], 10),
        Asked::List => Reply::Objects(&[("new", 12)], 20 + before as u64),
        Asked::Past => Reply::Objects(&[("old", 7)], 15),
        Asked::Watch => watch,
    }
}

/// An API server where nothing happens.
fn quiet(what: Asked, watch: Reply) -> Reply {
    match what {
        Asked::Watch => watch,
        Asked::List | Asked::Past => Reply::Objects(&[("old", 7)], 10),
    }
}

/// A list of these, or a part of one.
fn listed(names: &[&str], begins: bool, ends: bool) -> Delta<String, String> {
    Delta::List { objects: names.iter().map(|n| (*n).to_owned()).collect(), begins, ends }
}

/// The list of all.
fn all(names: &[&str]) -> Delta<String, String> {
    listed(names, true, true)
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_begun_again_and_nothing_has_failed() {
    let followed = follow(HOUR, |what, _| quiet(what, Reply::Stays(String::new()))).await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    assert!(followed.silent < Duration::from_secs(105), "{:?}", followed.silent);
    // Each 100 s, from the last version.
    let watches = followed.api.count(Asked::Watch);
    assert!((36..=39).contains(&watches), "{watches}");
    let asked = followed.api.asked.lock().unwrap();
    let mut watches = asked.iter().filter(|(_, what, _)| *what == Asked::Watch);
    assert!(watches.all(|(_, _, uri)| uri.contains("resourceVersion=10")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_watches_hold_back_is_listed_and_less_and_less_where_there_is_nothing() {
    let followed = follow(10 * HOUR, |what, _| quiet(what, Reply::Stays(String::new()))).await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    let lists = followed.times(Asked::List);
    assert!((11..=14).contains(&lists.len()), "{lists:?}");
    for (pair, minutes) in lists.windows(2).zip([5, 10, 20, 40, 60, 60, 60]) {
        let (took, wanted) = ((pair[1] - pair[0]).as_secs_f64(), f64::from(minutes * 60));
        assert!((wanted * 0.89..=wanted * 1.11).contains(&took), "{lists:?}");
    }
    // A Service that goes each half an hour, or comes, and of which no watch tells.
    let start = Instant::now();
    let followed = follow(10 * HOUR, move |what, _| match what {
        Asked::List if start.elapsed().as_secs() / 1800 % 2 == 1 => Reply::Objects(&[], 10),
        _ => quiet(what, Reply::Stays(String::new())),
    })
    .await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    let lists = followed.times(Asked::List);
    assert!((50..=90).contains(&lists.len()), "{lists:?}");
    let longest = lists.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < 25 * MINUTE, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn where_a_watch_brings_something_now_and_then_little_is_listed() {
    // A bookmark each ten minutes, and in between silent watches.
    let bookmark = event("BOOKMARK", &object("", 10));
    let watch = move |before: usize| Reply::Stays(if before % 6 == 5 { bookmark.clone() } else { String::new() });
    let followed = follow(10 * HOUR, move |what, before| quiet(what, watch(before))).await;
    let lists = followed.times(Asked::List);
    assert!((58..=75).contains(&lists.len()), "{}", lists.len());
    // With each other watch: none.
    let followed = follow(10 * HOUR, |what, before| {
        let text = if before % 2 == 1 { event("BOOKMARK", &object("", 10)) } else { String::new() };
        quiet(what, Reply::Stays(text))
    })
    .await;
    assert_eq!((followed.api.count(Asked::List), followed.errors()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_no_list_outruns_the_bookmark() {
    let (second, bookmark) = (Duration::from_secs(1), event("BOOKMARK", &object("", 10)));
    let start = Instant::now();
    let followed = follow(2 * HOUR, move |what, before| {
        let text = bookmark.clone();
        match what {
            _ if (MINUTE..HOUR).contains(&start.elapsed()) => Reply::Refused,
            Asked::Watch if before == 0 => Reply::Late { after: 60 * second, text, times: 1, breaks: true },
            _ => quiet(what, Reply::Late { after: 60 * second, text, times: 4, breaks: false }),
        }
    })
    .await;
    assert!(followed.errors() > 100);
    assert_eq!(followed.api.count(Asked::List), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_quiet_watch_missed_comes_with_the_next() {
    let followed = follow(3 * MINUTE, |what, before| {
        let text = if before == 1 { event("DELETED", &object("old", 12)) } else { String::new() };
        lists(what, before, Reply::Stays(text))
    })
    .await;
    assert_eq!(followed.errors(), 0);
    let [(_, Delta::List { .. }), (at, Delta::Delete(name))] = &followed.deltas[..] else {
        panic!("{:?}", followed.deltas)
    };
    assert!(name == "old" && (100..102).contains(&at.as_secs()), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_whose_server_is_gone_is_dead_after_fifteen_seconds() {
    for silent in [Asked::Past, Asked::Watch] {
        let followed = follow(Duration::from_secs(118), move |what, before| match what {
            _ if what == silent && (what == Asked::Past || before > 0) => Reply::Silence,
            _ => lists(what, before, Reply::Stays(String::new())),
        })
        .await;
        assert_eq!(followed.errors(), 1, "{silent:?}");
        assert!((2..=3).contains(&followed.broken.as_secs()), "{:?}", followed.broken);
    }
}

/// A watch that never gets on is made up for by lists: the first soon, and in the long run no more than a few a minute.
async fn is_listed_again(what_is_it: &str, watch: impl Fn(usize) -> Reply + Send + Sync + 'static) {
    let followed = follow(HOUR, move |what, before| lists(what, before, watch(before))).await;
    let lists = followed.times(Asked::List);
    assert!(lists[1] < MINUTE, "{what_is_it}: {lists:?}");
    let new = |(_, delta): &&(Duration, Delta<_, _>)| *delta == all(&["new"]);
    assert!(followed.deltas.iter().any(|d| new(&d)), "{what_is_it}");
    // A mean of 15 s, or more where it fails some times in between.
    assert!((60..=500).contains(&lists.len()), "{what_is_it}: {}", lists.len());
    assert!(followed.errors() > 0, "{what_is_it}");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_again_and_again() {
    is_listed_again("410", |_| Reply::Code(410)).await;
    is_listed_again("410 in the stream", |_| Reply::Ends(event("ERROR", &status(410)))).await;
    is_listed_again("410 in a stream that stays", |_| Reply::Stays(event("ERROR", &status(410)))).await;
    is_listed_again("410 as text", |_| Reply::Ends(format!("{}\n", status(410)))).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_again_and_again() {
    is_listed_again("500", |_| Reply::Code(500)).await;
    is_listed_again("500 in the stream", |_| Reply::Ends(event("ERROR", &status(500)))).await;
    is_listed_again("500 in a stream that stays", |_| Reply::Stays(event("ERROR", &status(500)))).await;
    is_listed_again("half an event", |_| Reply::Ends(event("DELETED", &object("old", 12))[..40].into())).await;
    is_listed_again("no event", |_| Reply::Ends("\"nonsense\"\n".into())).await;
    is_listed_again("an end at once", |_| Reply::Ends(String::new())).await;
    // The API server says that it is there, but never lets a watch through.
    is_listed_again("refused", |before| if before == 0 { Reply::Ends("\"x\"\n".into()) } else { Reply::Refused }).await;
}

#[tokio::test(start_paused = true)]
async fn who_can_only_be_listed_is_not_in_touch_again_before_a_watch_lives() {
    let fails = |before| match before {
        0..200 => Reply::Code(500),
        // It ends before it can be said to live.
        200..300 => Reply::Ends("\"nonsense\"\n".into()),
        _ => Reply::Stays(String::new()),
    };
    let followed = follow(HOUR, move |what, before| match what {
        Asked::Past => Reply::Objects(&[("new", 9999)], 9999),
        _ => lists(what, before, fails(before)),
    })
    .await;
    let watches = followed.times(Asked::Watch);
    let [settled] = followed.settled[..] else { panic!("{:?}", followed.settled) };
    let lived = settled - watches[300];
    assert!((500..1500).contains(&lived.as_millis()), "{lived:?}");
    // Lists came all the while, and each was right for a moment.
    assert!(followed.api.count(Asked::List) > 20);
    assert!(followed.broken < MINUTE, "{:?}", followed.broken);
    assert_eq!(followed.health.state(Kind::Services).broken, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_repeats_what_is_known() {
    let half = event("DELETED", &object("old", 12))[..40].to_owned();
    for (what_is_it, known) in [
        ("an event", event("MODIFIED", &object("old", 11))),
        ("an older event", event("ADDED", &object("old", 6))),
        ("an older bookmark", event("BOOKMARK", &object("", 5))),
    ] {
        let text = known + &half;
        is_listed_again(what_is_it, move |_| Reply::Ends(text.clone())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_brings_news_needs_no_list_however_it_ends() {
    let version = |before| 100 + before as u64;
    let half = event("DELETED", &object("old", 12))[..40].to_owned();
    let followed = follow(10 * MINUTE, move |what, before| match what {
        Asked::List => Reply::Objects(&[("old", 7)], 10),
        Asked::Past => Reply::Ends(list(&[("old", version(before))], version(before))),
        Asked::Watch => Reply::Ends(event("MODIFIED", &object("old", version(before))) + &half),
    })
    .await;
    assert!(followed.errors() > 50, "{}", followed.errors());
    assert_eq!(followed.api.count(Asked::List), 1);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_answers_nothing_is_listed() {
    for reply in [|| Reply::Refused, || Reply::Code(403), || Reply::Code(401)] {
        let followed = follow(HOUR / 2, move |what, before| match what {
            Asked::List => lists(what, before, Reply::Refused),
            Asked::Watch if before == 0 => Reply::Stays(String::new()),
            _ => reply(),
        })
        .await;
        assert_eq!(followed.api.count(Asked::List), 1);
        // Up to 8 s lie between tries.
        assert!((300..=700).contains(&followed.errors()), "{}", followed.errors());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_back_goes_on_from_where_it_was() {
    let followed = follow(7 * MINUTE, move |what, before| match what {
        Asked::List => lists(what, before, Reply::Refused),
        Asked::Past if before < 20 => Reply::Refused,
        Asked::Past if before == 20 => Reply::Objects(&[("old", 7)], 15),
        Asked::Past => Reply::Objects(&[], 15),
        Asked::Watch if before == 1 => Reply::Stays(event("DELETED", &object("old", 12))),
        Asked::Watch => Reply::Stays(String::new()),
    })
    .await;
    assert_eq!(followed.api.count(Asked::List), 1);
    assert!(matches!(followed.deltas[..], [(_, Delta::List { .. }), (_, Delta::Delete(_))]), "{:?}", followed.deltas);
    assert_eq!((followed.errors(), followed.health.is_unsettled(Kind::Services)), (20, false));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_makes_a_list_and_no_error() {
    let followed = follow(3 * MINUTE, |what, before| match what {
        Asked::Past => Reply::Objects(&[], 15),
        _ => lists(what, before, Reply::Stays(String::new())),
    })
    .await;
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    assert_eq!(followed.api.count(Asked::List), 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_brings_nothing_is_made_up_for_however_long_it_goes_on() {
    let (second, error) = (Duration::from_secs(1), event("ERROR", &status(500)));
    for (what_is_it, after, text, breaks, latest) in [
        ("500 after a while", 35 * second, error, false, 80 * second),
        ("ends soon", 3 * second / 2, String::new(), false, 45 * second),
    ] {
        let watch = move || Reply::Late { after, text: text.clone(), times: 1, breaks };
        let followed = follow(HOUR, move |what, before| lists(what, before, watch())).await;
        let lists = followed.times(Asked::List);
        assert!(lists[1] < latest, "{what_is_it}: {lists:?}");
        assert!((20..=500).contains(&lists.len()), "{what_is_it}: {}", lists.len());
        assert!(followed.deltas.iter().any(|(_, d)| *d == all(&["new"])), "{what_is_it}");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_a_proxy_ends_since_they_are_idle_are_silent_ones() {
    let second = Duration::from_secs(1);
    for (after, breaks) in [(20, true), (35, true), (35, false), (60, true), (60, false)] {
        let after = after * second;
        let watch = move || Reply::Late { after, text: String::new(), times: 1, breaks };
        let followed = follow(10 * HOUR, move |what, _| quiet(what, watch())).await;
        assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO), "{after:?}");
        assert!(!followed.health.is_unsettled(Kind::Services) && followed.silent < 2 * MINUTE);
        // From the same version, without a pause.
        let watches = followed.api.count(Asked::Watch);
        let wanted = (10 * HOUR).as_secs() as usize / after.as_secs() as usize;
        assert!((wanted * 9 / 10..=wanted + 10).contains(&watches), "{watches} {wanted}");
        let listed = followed.times(Asked::List);
        assert!((11..=14).contains(&listed.len()), "{after:?}: {listed:?}");
        // What nobody tells is found.
        let followed = follow(MINUTE * 6, move |what, before| lists(what, before, watch())).await;
        assert!(followed.deltas.iter().any(|(_, d)| *d == all(&["new"])), "{after:?}");
        // And what happened while there was no watch comes with the next.
        let followed = follow(2 * MINUTE, move |what, before| match what {
            Asked::Watch if before == 1 => Reply::Stays(event("DELETED", &object("old", 12))),
            _ => quiet(what, watch()),
        })
        .await;
        assert!(
            matches!(followed.deltas[..], [(_, Delta::List { .. }), (_, Delta::Delete(_))]),
            "{:?}",
            followed.deltas
        );
    }
    // What ends sooner has failed.
    for breaks in [false, true] {
        let watch = move || Reply::Late { after: 19 * second, text: String::new(), times: 1, breaks };
        let followed = follow(10 * MINUTE, move |what, _| quiet(what, watch())).await;
        assert!(followed.errors() > 10 && followed.api.count(Asked::List) > 5, "{}", followed.errors());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_bookmarks_needs_no_list_however_it_ends() {
    let bookmark = event("BOOKMARK", &object("", 10));
    for breaks in [false, true] {
        let text = bookmark.clone();
        let watch = move || Reply::Late { after: MINUTE, text: text.clone(), times: 5, breaks };
        let followed = follow(HOUR, move |what, before| lists(what, before, watch())).await;
        assert_eq!(followed.api.count(Asked::List), 1);
        assert_eq!(followed.errors() > 0, breaks);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_asked_for_is_no_failure() {
    let (second, quiet) = (Duration::from_secs(1), |what, before| lists(what, before, Reply::Stays(String::new())));
    // What is asked for twice is done once.
    let followed = follow_and_ask(MINUTE, [10 * second, 10 * second], quiet).await;
    let lists = followed.times(Asked::List);
    assert!(lists.len() == 2 && (10..12).contains(&lists[1].as_secs()), "{lists:?}");
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    assert_eq!(followed.deltas[1].1, all(&["new"]));
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_asked_for_without_end_keep_their_pace_and_the_watch_goes_on() {
    let second = Duration::from_secs(1);
    let text = event("MODIFIED", &object("new", 90));
    let watch = move || Reply::Late { after: second, text: text.clone(), times: 3600, breaks: false };
    let asks = (0..3600).map(|i| i * second);
    let followed = follow_and_ask(HOUR, asks, move |what, before| lists(what, before, watch())).await;
    let lists = followed.api.count(Asked::List);
    assert!((150..=400).contains(&lists), "{lists}");
    assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
    let events = followed.deltas.iter().filter(|(_, delta)| matches!(delta, Delta::Apply(_))).count();
    assert!(events > 3000, "{events}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_under_way_is_the_one_that_is_asked_for() {
    let second = Duration::from_secs(1);
    let text = list(&[("new", 12)], 20);
    let slow = move |what, _| match what {
        Asked::List => Reply::Late { after: 10 * second, text: text.clone(), times: 1, breaks: false },
        _ => Reply::Stays(String::new()),
    };
    let followed = follow_and_ask(MINUTE, [second, 5 * second], slow).await;
    assert_eq!((followed.api.count(Asked::List), followed.errors()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_too_long_have_fewer_objects() {
    for (count, octets, limits) in [
        (600, 1000, "500 500, 500 500"),
        // As many as are there would be too long as well.
        (60, TEXT_MAX / 40, "500 125 31 31, 31 31"),
        (2, TEXT_MAX * 9 / 10, "500 125 31 7 1 1, 1 1"),
    ] {
        let followed = follow_and_ask(MINUTE / 6, [MINUTE / 12], move |what, _| match what {
            // Two lists, since what was learnt stays.
            Asked::List => Reply::Pages(count, octets),
            _ => Reply::Stays(String::new()),
        })
        .await;
        assert_eq!((followed.errors(), followed.broken), (0, Duration::ZERO));
        let asked = followed.api.asked.lock().unwrap();
        let lists = asked.iter().filter(|(_, what, _)| *what == Asked::List);
        let uris: Vec<&str> = lists.map(|(_, _, uri)| &**uri).collect();
        let limits_of = |uris: &[&str]| {
            uris.iter().map(|uri| parameter(uri, "limit").unwrap().to_string()).collect::<Vec<_>>().join(" ")
        };
        let (first, second) = limits.split_once(", ").unwrap();
        let (a, b) = uris.split_at(first.split(' ').count());
        assert_eq!((&*limits_of(a), &*limits_of(&b[..second.split(' ').count()])), (first, second));
        // Each is there, and once.
        let names: Vec<String> = (0..count).map(|i| format!("s{i}")).collect();
        assert!(followed.deltas.len() > 1);
        assert!(
            followed.deltas.iter().all(
                |(_, delta)| matches!(delta, Delta::List { objects, begins: true, ends: true } if *objects == names)
            ),
            "{count}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_longer_than_any_page_is_an_error_each_time_anew() {
    let followed = follow(2 * MINUTE, |what, _| match what {
        Asked::List => Reply::Pages(1, TEXT_MAX),
        _ => Reply::Refused,
    })
    .await;
    assert!(followed.deltas.is_empty());
    // As any list that fails, at the pace of lists.
    assert!((5..=30).contains(&followed.errors()), "{:?}", followed.times(Asked::List));
    assert_eq!(followed.api.count(Asked::List) as u64, followed.errors() + 4);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_long_is_made_up_for_by_a_list() {
    let long = |before| Reply::Stays(if before < 5 { "x".repeat(TEXT_MAX + 1) } else { String::new() });
    let followed = follow(MINUTE, move |what, before| lists(what, before, long(before))).await;
    let lists = followed.times(Asked::List);
    assert!(lists.len() == 2 && lists[1] < MINUTE / 2, "{lists:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_parts() {
    let objects: &[_] = &[("large-a", 1), ("large-b", 2), ("large-c", 3), ("large-d", 4), ("small", 5)];
    let followed = follow(MINUTE, move |what, _| match what {
        Asked::List => Reply::Objects(objects, 10),
        Asked::Past => Reply::Objects(&[("small", 5)], 15),
        Asked::Watch => Reply::Stays(String::new()),
    })
    .await;
    let deltas: Vec<_> = followed.deltas.into_iter().map(|(_, delta)| delta).collect();
    let expected = [
        listed(&["large-a", "large-b"], true, false),
        listed(&["large-c", "large-d"], false, false),
        listed(&["small"], false, true),
    ];
    assert_eq!(deltas, expected);
}
