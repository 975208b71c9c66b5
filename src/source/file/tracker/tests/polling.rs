//! Files without events, and after lost events.

use super::*;

#[test]
fn a_change_without_events_counts_after_two_equal_snapshots() {
    let mut scene = Scene::running();
    scene.change(110);
    assert!(!scene.is_read_within(POLL));
    scene.change(120);
    assert!(!scene.is_read_within(POLL));
    assert!(scene.is_read_within(POLL));
    assert_eq!(scene.tracker.notes(), [Note::NoEvents]);
    scene.read();
    scene.change(130);
    assert!(scene.is_read_within(POLL * 2));
    assert_eq!(scene.tracker.notes(), [], "logged once");
    scene.read();
    // A missing newline holds the file back as with events.
    scene.change(140);
    scene.snapshot.has_newline = false;
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.held(), Some(Held::NoNewline));
    // A different inode: the file was renamed into place, or its writer died. It has to grow old.
    scene.replace(140);
    assert!(!scene.is_read_within(POLL * 2));
    assert!(scene.is_read_within(QUIESCENT));
}

#[test]
fn an_event_takes_precedence_over_a_snapshot() {
    // A poll sees the change before the event arrives.
    let mut scene = Scene::running();
    scene.change(110);
    assert!(!scene.is_read_within(POLL));
    scene.event(FileEvent::Written);
    assert!(!scene.is_read_within(Duration::from_secs(5)));
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
    assert_eq!(scene.tracker.notes(), []);
}

#[test]
fn after_lost_events_the_rules_of_the_start_apply() {
    let mut scene = Scene::running();
    scene.replace(110);
    scene.event(FileEvent::Unclear);
    assert!(!scene.is_read_within(STARTUP_POLL));
    assert!(scene.is_read_within(SETTLE));
    // The version in effect is known: the same inode without a final newline is incomplete, however old.
    let mut scene = Scene::running();
    scene.change(110);
    (scene.snapshot.has_newline, scene.snapshot.age) = (false, QUIESCENT);
    scene.event(FileEvent::Unclear);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    // Most often nothing changed.
    let mut scene = Scene::running();
    scene.event(FileEvent::Unclear);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
}
