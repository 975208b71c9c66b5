//! Files that are renamed, written and removed with events.

use super::*;

#[test]
fn a_file_renamed_into_place_is_complete_at_once() {
    let mut scene = Scene::running();
    scene.replace(3);
    scene.snapshot.has_newline = false;
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Renamed);
    assert!(scene.is_read_within(SETTLE));
    scene.read();
    assert!(!scene.is_read_within(QUIESCENT));
    assert_eq!(scene.tracker.held(), None);
}

#[test]
fn a_file_renamed_into_place_with_a_writer_waits_for_the_close() {
    let mut scene = Scene::running();
    scene.replace(120);
    scene.snapshot.has_writer = Some(true);
    scene.event(FileEvent::Renamed);
    assert!(!scene.is_read_within(Duration::from_secs(4)));
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
    // The file was moved away and back in the middle of a line, and its writer was killed then.
    let mut scene = Scene::running();
    scene.write(110);
    (scene.snapshot.has_newline, scene.snapshot.has_writer) = (false, Some(true));
    scene.event(FileEvent::Unclear);
    scene.event(FileEvent::Renamed);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.held(), Some(Held::Writer));
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Closed);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.held(), Some(Held::NoNewline));
}

#[test]
fn a_closed_file_is_read_even_if_its_state_is_the_same() {
    // As after a write by mmap(2) on tmpfs.
    let mut scene = Scene::running();
    scene.snapshot.has_writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
    assert!(scene.tracker.is_decided(scene.snapshot.state), "only the text can tell whether it changed");
    scene.read();
    assert!(!scene.is_read_within(Duration::from_secs(60)), "once");
}

#[test]
fn a_change_without_events_waits_for_a_known_writer() {
    let mut scene = Scene::running();
    scene.change(110);
    scene.snapshot.has_writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
    // A write by mmap(2): inotify reports the close.
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
    assert_eq!(scene.tracker.notes(), [Note::WriterGone]);
    // A write through another name: inotify reports no close.
    let mut scene = Scene::running();
    scene.change(110);
    scene.snapshot.has_writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    scene.snapshot.has_writer = Some(false);
    assert!(scene.is_read_within(POLL));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer), Note::WriterGone, Note::NoEvents]);
}

#[test]
fn a_file_written_in_place_is_read_when_it_is_closed() {
    for has_writer in [None, Some(true)] {
        let mut scene = Scene::running();
        scene.snapshot.has_writer = has_writer;
        scene.write(100);
        assert!(!scene.is_read_within(Duration::from_secs(4)));
        scene.write(120);
        assert!(!scene.is_read_within(Duration::from_secs(4)));
        scene.snapshot.has_writer = has_writer.map(|_| false);
        scene.event(FileEvent::Closed);
        assert!(scene.is_read_within(SETTLE), "the same size or larger at the close");
    }
}

#[test]
fn the_last_of_two_writers_counts() {
    // By events: the second writer writes after the first one closed the file.
    let mut scene = Scene::running();
    scene.write(100);
    scene.event(FileEvent::Closed);
    scene.write(110);
    assert!(!scene.is_read_within(Duration::from_secs(4)));
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
    // By the kernel's answer: the second writer has written nothing.
    let mut scene = Scene::running();
    scene.snapshot.has_writer = Some(true);
    scene.write(110);
    scene.event(FileEvent::Closed);
    assert!(!scene.is_read_within(Duration::from_secs(4)));
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_change_without_a_writer_needs_no_close() {
    // As by truncate(2) and utimensat(2) with a path.
    let mut scene = Scene::running();
    scene.snapshot.has_writer = Some(false);
    scene.write(100);
    assert!(scene.is_read_within(SETTLE));
    let mut scene = Scene::running();
    scene.change(100);
    scene.event(FileEvent::Touched);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_file_without_a_final_newline_is_incomplete() {
    let mut scene = Scene::running();
    scene.snapshot.has_newline = false;
    for _ in 0..2 {
        scene.write(110);
        scene.event(FileEvent::Closed);
        assert!(!scene.is_read_within(Duration::from_secs(60)));
        assert_eq!(scene.tracker.held(), Some(Held::NoNewline));
    }
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::NoNewline)], "logged once");
    // SIGHUP confirms it.
    scene.tracker.confirm(scene.now);
    assert!(scene.is_read_within(Duration::ZERO));
    scene.read();
    assert_eq!(scene.tracker.held(), None);
    // After that the version in effect has no final newline either.
    scene.write(120);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
    scene.read();
    // The newline follows.
    let mut scene = Scene::running();
    scene.snapshot.has_newline = false;
    scene.write(110);
    scene.event(FileEvent::Closed);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    scene.snapshot.has_newline = true;
    scene.write(111);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn no_final_newline_is_needed_if_the_version_in_effect_has_none() {
    let mut scene = Scene::running_without_newline();
    scene.write(100);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_file_that_shrank_has_to_stay_shorter() {
    for size in [99, 0] {
        let mut scene = Scene::running();
        scene.write(size);
        scene.event(FileEvent::Closed);
        assert!(!scene.is_read_within(SHRINK_WAIT - millis(1)), "{size}");
        assert!(scene.is_read_within(millis(1)), "{size}");
    }
    // The file is truncated, and then written by another process.
    let mut scene = Scene::running();
    scene.write(0);
    scene.event(FileEvent::Closed);
    assert!(!scene.is_read_within(millis(900)));
    scene.write(50);
    scene.event(FileEvent::Closed);
    assert!(!scene.is_read_within(millis(900)));
    scene.write(100);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_writer_that_never_closes_is_logged_and_changes_nothing() {
    let mut scene = Scene::running();
    scene.write(110);
    assert!(!scene.is_read_within(WRITER_LOGGED - millis(1)));
    assert_eq!(scene.tracker.notes(), []);
    assert!(!scene.is_read_within(Duration::from_secs(100)));
    assert_eq!(scene.tracker.held(), Some(Held::Writer));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
    scene.event(FileEvent::Closed);
    assert_eq!((scene.tracker.held(), scene.tracker.notes()), (None, vec![Note::WriterGone]));
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_file_that_is_removed_is_reported() {
    let mut scene = Scene::running();
    scene.snapshot.state = None;
    scene.event(FileEvent::Unclear);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn endless_events_do_not_prevent_a_snapshot() {
    let mut scene = Scene::running();
    let began = scene.now;
    scene.event(FileEvent::Written);
    assert_eq!(scene.tracker.due(), began + SETTLE);
    while scene.tracker.due() > scene.now {
        scene.advance(SETTLE / 5);
        scene.event(FileEvent::Written);
        assert!(scene.now - began <= SETTLE_MAX);
    }
    assert!(scene.now - began >= SETTLE * 5, "several events are one change");
}
