//! Files at start, before any event.

use super::*;

#[test]
fn at_start_an_old_or_replaced_file_is_read_at_once() {
    assert!(Scene::start(QUIESCENT).is_read_within(Duration::ZERO));
    let mut is_swapped = Scene::start(Duration::ZERO);
    (is_swapped.snapshot.is_swapped, is_swapped.snapshot.has_newline) = (true, false);
    assert!(is_swapped.is_read_within(Duration::ZERO));
    let mut missing = Scene::start(Duration::ZERO);
    missing.snapshot.state = None;
    assert!(missing.is_read_within(Duration::ZERO));
}

#[test]
fn at_start_a_young_file_needs_two_equal_snapshots() {
    let mut scene = Scene::start(millis(100));
    assert!(!scene.is_read_within(STARTUP_POLL - millis(1)));
    assert!(scene.is_read_within(millis(1)));
    // A change in between starts the time anew.
    let mut scene = Scene::start(millis(100));
    assert!(!scene.is_read_within(millis(200)));
    scene.change(110);
    assert!(!scene.is_read_within(STARTUP_POLL));
    assert!(scene.is_read_within(STARTUP_POLL));
}

#[test]
fn at_start_a_young_file_without_a_final_newline_has_to_grow_old() {
    let mut scene = Scene::start(millis(100));
    scene.snapshot.has_newline = false;
    assert!(!scene.is_read_within(QUIESCENT - millis(200)));
    assert!(scene.is_read_within(millis(500)));
    assert_eq!(scene.tracker.notes(), [Note::AssumedComplete]);
    // A file with a writer has to grow old, too.
    let mut scene = Scene::start(millis(100));
    scene.snapshot.has_writer = Some(true);
    assert!(!scene.is_read_within(QUIESCENT - millis(200)));
    assert!(scene.is_read_within(millis(500)));
    // It is read as soon as the writer closes it.
    let mut scene = Scene::start(millis(100));
    scene.snapshot.has_writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(3)));
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn at_start_a_file_that_keeps_changing_is_an_error() {
    let mut scene = Scene::start(Duration::ZERO);
    for i in 0..60 {
        assert_eq!(scene.tracker.held() == Some(Held::Changing), i > 50, "{i}");
        scene.write(100 + i);
        assert!(!scene.is_read_within(millis(200)), "{i}");
    }
}
