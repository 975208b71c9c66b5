//! Files that the operator confirmed.

use super::*;

#[test]
fn sighup_waits_only_for_a_known_writer() {
    let mut scene = Scene::running();
    scene.snapshot.has_writer = Some(true);
    scene.snapshot.has_newline = false;
    scene.write(0);
    scene.tracker.confirm(scene.now);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
    scene.snapshot.has_writer = Some(false);
    scene.event(FileEvent::Closed);
    assert!(scene.is_read_within(SETTLE), "empty, without a newline");
    scene.read();
    // SIGHUP reads an unchanged file, too.
    scene.snapshot.has_writer = Some(false);
    scene.tracker.confirm(scene.now);
    assert!(scene.is_read_within(Duration::ZERO));
}

#[test]
fn sighup_waits_for_a_writer_known_by_events() {
    // A file that was truncated, one that another process closed, and one that was renamed into place.
    let ways: [fn(&mut Scene); 3] = [
        |scene| scene.write(0),
        |scene| {
            scene.write(0);
            scene.event(FileEvent::Closed);
            scene.write(110);
        },
        |scene| {
            scene.replace(110);
            scene.event(FileEvent::Renamed);
            scene.event(FileEvent::Written);
        },
    ];
    for (i, way) in ways.into_iter().enumerate() {
        for is_early in [false, true] {
            let mut scene = Scene::running();
            scene.snapshot.has_newline = false;
            if is_early {
                scene.tracker.confirm(scene.now);
            }
            way(&mut scene);
            scene.tracker.confirm(scene.now);
            assert!(!scene.is_read_within(Duration::from_secs(60)), "{i}");
            assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
            scene.write(90);
            assert!(!scene.is_read_within(Duration::from_secs(60)), "{i}");
            scene.event(FileEvent::Closed);
            assert!(scene.is_read_within(Duration::ZERO), "{i}: shorter, without a newline");
        }
    }
    // An attribute change while the file is read does not matter, but a write does.
    let mut scene = Scene::running();
    scene.tracker.confirm(scene.now);
    assert!(scene.is_read_within(Duration::ZERO) && scene.tracker.is_read_valid());
    scene.event(FileEvent::Touched);
    assert!(scene.tracker.is_read_valid());
    scene.write(0);
    assert!(!scene.tracker.is_read_valid());
    // A writer of a file that no longer exists is not waited for.
    scene.snapshot.state = None;
    scene.event(FileEvent::Unclear);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn sighup_needs_two_equal_snapshots_if_writers_are_unknown() {
    let mut scene = Scene::running();
    scene.snapshot.has_newline = false;
    scene.change(0);
    scene.tracker.confirm(scene.now);
    assert!(!scene.is_read_within(POLL - millis(1)));
    scene.change(110);
    assert!(!scene.is_read_within(POLL));
    assert!(scene.is_read_within(millis(1)), "without a newline");
    // Two equal snapshots are needed after lost events too, until the file is old; and for a file that is missing for a moment.
    let mut scene = Scene::running();
    scene.replace(110);
    scene.event(FileEvent::Unclear);
    scene.tracker.confirm(scene.now);
    assert!(!scene.is_read_within(POLL - millis(1)));
    assert!(scene.is_read_within(millis(1)));
    let mut scene = Scene::running();
    scene.write(110);
    scene.event(FileEvent::Unclear);
    scene.tracker.confirm(scene.now);
    assert!(!scene.is_read_within(QUIESCENT - WRITER_POLL));
    assert!(scene.is_read_within(WRITER_POLL * 2), "a writer that closed the file unnoticed");
    let mut scene = Scene::running();
    scene.snapshot.state = None;
    scene.tracker.confirm(scene.now);
    assert!(!scene.is_read_within(POLL - millis(1)));
    assert!(scene.is_read_within(millis(1)));
    // One snapshot is enough where nothing changed, where the kernel knows the writers, and where the link was replaced.
    for (changes, has_writer, is_swapped) in [(false, None, false), (true, Some(false), false), (true, None, true)] {
        let mut scene = Scene::running();
        (scene.snapshot.has_writer, scene.snapshot.is_swapped) = (has_writer, is_swapped);
        if changes {
            scene.change(110);
        }
        scene.tracker.confirm(scene.now);
        assert!(scene.is_read_within(Duration::ZERO), "{changes} {has_writer:?} {is_swapped}");
    }
}

#[test]
fn a_file_that_is_back_since_the_snapshot_keeps_its_writer() {
    for is_confirmed in [false, true] {
        let mut scene = Scene::running();
        scene.snapshot.has_newline = is_confirmed;
        scene.write(110);
        if is_confirmed {
            scene.tracker.confirm(scene.now);
        }
        // Moved away, inspected, and moved back before the result arrives.
        scene.event(FileEvent::Unclear);
        let gone = Snapshot { taken: scene.now, state: None, ..scene.snapshot };
        scene.advance(millis(1));
        scene.event(FileEvent::Renamed);
        scene.event(FileEvent::Written);
        assert_eq!(scene.tracker.observe(&gone, scene.now), Decision::Wait);
        scene.tracker.confirm(scene.now);
        assert!(!scene.is_read_within(Duration::from_secs(60)));
        scene.event(FileEvent::Closed);
        assert!(scene.is_read_within(SETTLE));
    }
}
