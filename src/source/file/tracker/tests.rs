use super::*;

/// A file and its tracker, on a clock of their own.
struct Scene {
    tracker: Tracker,
    look: Look,
    now: Instant,
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Scene {
    /// At start: a file of 100 octets, changed so long ago.
    fn start(age: Duration) -> Self {
        let now = Instant::now();
        let state = State { inode: (1, 1), size: 100, modified: (1, 0) };
        let look = Look { state: Some(state), age, swapped: false, ends: true, writer: None };
        Self { tracker: Tracker::new(now), look, now }
    }

    /// A file that is in force.
    fn running() -> Self {
        let mut scene = Self::start(OLD);
        assert!(scene.is_read_within(Duration::ZERO));
        scene.read();
        scene
    }

    /// As [`Self::running`], but without an end of its last line.
    fn running_without_end() -> Self {
        let mut scene = Self::start(OLD);
        scene.look.ends = false;
        assert!(scene.is_read_within(Duration::ZERO));
        scene.read();
        scene
    }

    fn read(&mut self) {
        self.tracker.was_read(&self.look, self.now);
        self.tracker.in_force();
    }

    /// The file changes; who tells is another matter.
    fn change(&mut self, size: u64) {
        let state = self.look.state.as_mut().expect("it is there");
        (state.size, state.modified.0) = (size, state.modified.0 + 1);
        self.look.age = Duration::ZERO;
    }

    fn replace(&mut self, size: u64) {
        self.change(size);
        self.look.state.as_mut().expect("it is there").inode.1 += 1;
    }

    fn event(&mut self, event: Event) {
        self.tracker.event(event, self.now);
    }

    fn write(&mut self, size: u64) {
        self.change(size);
        self.event(Event::Written);
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.look.age += time;
    }

    /// Looks whenever it is due, for so long; whether it is to be read by then.
    fn is_read_within(&mut self, time: Duration) -> bool {
        let end = self.now + time;
        loop {
            let due = self.tracker.due().max(self.now);
            if due > end {
                self.advance(end - self.now);
                return false;
            }
            self.advance(due - self.now);
            if self.tracker.looked(&self.look, self.now) == Decision::Read {
                return true;
            }
            assert!(self.tracker.due() > self.now, "a look asks for another one at once");
        }
    }
}

#[test]
fn at_start_what_is_old_or_swapped_as_a_whole_is_read_at_once() {
    assert!(Scene::start(OLD).is_read_within(Duration::ZERO));
    let mut swapped = Scene::start(Duration::ZERO);
    (swapped.look.swapped, swapped.look.ends) = (true, false);
    assert!(swapped.is_read_within(Duration::ZERO));
    let mut missing = Scene::start(Duration::ZERO);
    missing.look.state = None;
    assert!(missing.is_read_within(Duration::ZERO));
}

#[test]
fn at_start_a_young_file_has_to_look_the_same_twice() {
    let mut scene = Scene::start(millis(100));
    assert!(!scene.is_read_within(EQUAL - millis(1)));
    assert!(scene.is_read_within(millis(1)));
    // Changed in between, that begins anew.
    let mut scene = Scene::start(millis(100));
    assert!(!scene.is_read_within(millis(200)));
    scene.change(110);
    assert!(!scene.is_read_within(EQUAL));
    assert!(scene.is_read_within(EQUAL));
}

#[test]
fn at_start_a_young_file_without_an_end_has_to_grow_old() {
    let mut scene = Scene::start(millis(100));
    scene.look.ends = false;
    assert!(!scene.is_read_within(OLD - millis(200)));
    assert!(scene.is_read_within(millis(500)));
    assert_eq!(scene.tracker.notes(), [Note::Trusted]);
    // So has one that somebody has open for writing.
    let mut scene = Scene::start(millis(100));
    scene.look.writer = Some(true);
    assert!(!scene.is_read_within(OLD - millis(200)));
    assert!(scene.is_read_within(millis(500)));
    // Until that is over.
    let mut scene = Scene::start(millis(100));
    scene.look.writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(3)));
    scene.look.writer = Some(false);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn at_start_a_file_that_goes_on_changing_is_an_error() {
    let mut scene = Scene::start(Duration::ZERO);
    for i in 0..60 {
        assert_eq!(scene.tracker.held() == Some(Held::Changing), i > 50, "{i}");
        scene.write(100 + i);
        assert!(!scene.is_read_within(millis(200)), "{i}");
    }
}

#[test]
fn what_is_renamed_there_is_whole_at_once() {
    let mut scene = Scene::running();
    scene.replace(3);
    scene.look.ends = false;
    scene.look.writer = Some(false);
    scene.event(Event::Renamed);
    assert!(scene.is_read_within(SETTLE));
    scene.read();
    assert!(!scene.is_read_within(OLD));
    assert_eq!(scene.tracker.held(), None);
}

#[test]
fn what_is_renamed_there_while_it_is_written_waits_for_the_close() {
    let mut scene = Scene::running();
    scene.replace(120);
    scene.look.writer = Some(true);
    scene.event(Event::Renamed);
    assert!(!scene.is_read_within(Duration::from_secs(4)));
    scene.look.writer = Some(false);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
    // Moved away and back in the middle of a line, and the writer was killed there.
    let mut scene = Scene::running();
    scene.write(110);
    (scene.look.ends, scene.look.writer) = (false, Some(true));
    scene.event(Event::Unclear);
    scene.event(Event::Renamed);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.held(), Some(Held::Writer));
    scene.look.writer = Some(false);
    scene.event(Event::Closed);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.held(), Some(Held::NoEnd));
}

#[test]
fn what_is_closed_is_read_even_if_nothing_shows_a_change() {
    // As after a write by mmap(2) on a tmpfs.
    let mut scene = Scene::running();
    scene.look.writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    scene.look.writer = Some(false);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
    assert!(scene.tracker.is_decided(scene.look.state), "what it says decides whether that is news");
    scene.read();
    assert!(!scene.is_read_within(Duration::from_secs(60)), "once");
}

#[test]
fn a_change_without_events_waits_for_a_writer_that_is_seen() {
    let mut scene = Scene::running();
    scene.change(110);
    scene.look.writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
    // By mmap(2): its close is told of.
    scene.look.writer = Some(false);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
    assert_eq!(scene.tracker.notes(), [Note::WriterGone]);
    // By another name: it is not.
    let mut scene = Scene::running();
    scene.change(110);
    scene.look.writer = Some(true);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    scene.look.writer = Some(false);
    assert!(scene.is_read_within(POLL));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer), Note::WriterGone, Note::Unheard]);
}

#[test]
fn what_is_written_in_place_is_read_when_it_is_closed() {
    for writer in [None, Some(true)] {
        let mut scene = Scene::running();
        scene.look.writer = writer;
        scene.write(100);
        assert!(!scene.is_read_within(Duration::from_secs(4)));
        scene.write(120);
        assert!(!scene.is_read_within(Duration::from_secs(4)));
        scene.look.writer = writer.map(|_| false);
        scene.event(Event::Closed);
        assert!(scene.is_read_within(SETTLE), "of the same size or larger at the close");
    }
}

#[test]
fn of_two_writers_the_last_one_counts() {
    // By events: who writes after the close of another.
    let mut scene = Scene::running();
    scene.write(100);
    scene.event(Event::Closed);
    scene.write(110);
    assert!(!scene.is_read_within(Duration::from_secs(4)));
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
    // And by the kernel's count of writers, who does not.
    let mut scene = Scene::running();
    scene.look.writer = Some(true);
    scene.write(110);
    scene.event(Event::Closed);
    assert!(!scene.is_read_within(Duration::from_secs(4)));
    scene.look.writer = Some(false);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_change_without_a_writer_needs_no_close() {
    // As by truncate(2) and utimensat(2) of a path.
    let mut scene = Scene::running();
    scene.look.writer = Some(false);
    scene.write(100);
    assert!(scene.is_read_within(SETTLE));
    let mut scene = Scene::running();
    scene.change(100);
    scene.event(Event::Touched);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn without_an_end_of_its_last_line_it_is_half_written() {
    let mut scene = Scene::running();
    scene.look.ends = false;
    for _ in 0..2 {
        scene.write(110);
        scene.event(Event::Closed);
        assert!(!scene.is_read_within(Duration::from_secs(60)));
        assert_eq!(scene.tracker.held(), Some(Held::NoEnd));
    }
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::NoEnd)], "said once");
    // SIGHUP says that it is meant.
    scene.tracker.mean(scene.now);
    assert!(scene.is_read_within(Duration::ZERO));
    scene.read();
    assert_eq!(scene.tracker.held(), None);
    // And what is in force has none either.
    scene.write(120);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
    scene.read();
    // The end comes.
    let mut scene = Scene::running();
    scene.look.ends = false;
    scene.write(110);
    scene.event(Event::Closed);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    scene.look.ends = true;
    scene.write(111);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn no_end_is_needed_where_there_was_none() {
    let mut scene = Scene::running_without_end();
    scene.write(100);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_file_that_shrank_has_to_stay_so() {
    for size in [99, 0] {
        let mut scene = Scene::running();
        scene.write(size);
        scene.event(Event::Closed);
        assert!(!scene.is_read_within(SHRUNK - millis(1)), "{size}");
        assert!(scene.is_read_within(millis(1)), "{size}");
    }
    // Truncated, and then written by another.
    let mut scene = Scene::running();
    scene.write(0);
    scene.event(Event::Closed);
    assert!(!scene.is_read_within(millis(900)));
    scene.write(50);
    scene.event(Event::Closed);
    assert!(!scene.is_read_within(millis(900)));
    scene.write(100);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn a_writer_that_never_closes_is_named_and_changes_nothing() {
    let mut scene = Scene::running();
    scene.write(110);
    assert!(!scene.is_read_within(LONG - millis(1)));
    assert_eq!(scene.tracker.notes(), []);
    assert!(!scene.is_read_within(Duration::from_secs(100)));
    assert_eq!(scene.tracker.held(), Some(Held::Writer));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
    scene.event(Event::Closed);
    assert_eq!((scene.tracker.held(), scene.tracker.notes()), (None, vec![Note::WriterGone]));
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn sighup_waits_for_a_writer_that_is_seen_and_for_nothing_else() {
    let mut scene = Scene::running();
    scene.look.writer = Some(true);
    scene.look.ends = false;
    scene.write(0);
    scene.tracker.mean(scene.now);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
    scene.look.writer = Some(false);
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE), "without an end, and empty");
    scene.read();
    // Also where nothing changed.
    scene.look.writer = Some(false);
    scene.tracker.mean(scene.now);
    assert!(scene.is_read_within(Duration::ZERO));
}

#[test]
fn sighup_waits_for_a_writer_that_only_events_tell_of() {
    // Of a file that was cut, one that was closed by another, and one that was renamed meanwhile.
    let ways: [fn(&mut Scene); 3] = [
        |scene| scene.write(0),
        |scene| {
            scene.write(0);
            scene.event(Event::Closed);
            scene.write(110);
        },
        |scene| {
            scene.replace(110);
            scene.event(Event::Renamed);
            scene.event(Event::Written);
        },
    ];
    for (i, way) in ways.into_iter().enumerate() {
        for is_early in [false, true] {
            let mut scene = Scene::running();
            scene.look.ends = false;
            if is_early {
                scene.tracker.mean(scene.now);
            }
            way(&mut scene);
            scene.tracker.mean(scene.now);
            assert!(!scene.is_read_within(Duration::from_secs(60)), "{i}");
            assert_eq!(scene.tracker.notes(), [Note::Held(Held::Writer)]);
            scene.write(90);
            assert!(!scene.is_read_within(Duration::from_secs(60)), "{i}");
            scene.event(Event::Closed);
            assert!(scene.is_read_within(Duration::ZERO), "{i}: without an end, and shorter");
        }
    }
    // What is written while it is read does not count.
    let mut scene = Scene::running();
    scene.tracker.mean(scene.now);
    assert!(scene.is_read_within(Duration::ZERO) && scene.tracker.may_be_taken());
    scene.event(Event::Touched);
    assert!(scene.tracker.may_be_taken());
    scene.write(0);
    assert!(!scene.tracker.may_be_taken());
    // Who wrote a file that is gone is not waited for.
    scene.look.state = None;
    scene.event(Event::Unclear);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn sighup_takes_two_equal_looks_where_nothing_tells_of_a_writer() {
    let mut scene = Scene::running();
    scene.look.ends = false;
    scene.change(0);
    scene.tracker.mean(scene.now);
    assert!(!scene.is_read_within(POLL - millis(1)));
    scene.change(110);
    assert!(!scene.is_read_within(POLL));
    assert!(scene.is_read_within(millis(1)), "without an end");
    // Also after events were lost, until the file is old; and a file that goes for a moment.
    let mut scene = Scene::running();
    scene.replace(110);
    scene.event(Event::Unclear);
    scene.tracker.mean(scene.now);
    assert!(!scene.is_read_within(POLL - millis(1)));
    assert!(scene.is_read_within(millis(1)));
    let mut scene = Scene::running();
    scene.write(110);
    scene.event(Event::Unclear);
    scene.tracker.mean(scene.now);
    assert!(!scene.is_read_within(OLD - WRITING));
    assert!(scene.is_read_within(WRITING * 2), "a writer that went without a word");
    let mut scene = Scene::running();
    scene.look.state = None;
    scene.tracker.mean(scene.now);
    assert!(!scene.is_read_within(POLL - millis(1)));
    assert!(scene.is_read_within(millis(1)));
    // Where nothing changed, where the kernel tells, and where it was swapped as a whole, once is enough.
    for (changes, writer, swapped) in [(false, None, false), (true, Some(false), false), (true, None, true)] {
        let mut scene = Scene::running();
        (scene.look.writer, scene.look.swapped) = (writer, swapped);
        if changes {
            scene.change(110);
        }
        scene.tracker.mean(scene.now);
        assert!(scene.is_read_within(Duration::ZERO), "{changes} {writer:?} {swapped}");
    }
}

#[test]
fn a_change_without_events_counts_when_two_looks_are_equal() {
    let mut scene = Scene::running();
    scene.change(110);
    assert!(!scene.is_read_within(POLL));
    scene.change(120);
    assert!(!scene.is_read_within(POLL));
    assert!(scene.is_read_within(POLL));
    assert_eq!(scene.tracker.notes(), [Note::Unheard]);
    scene.read();
    scene.change(130);
    assert!(scene.is_read_within(POLL * 2));
    assert_eq!(scene.tracker.notes(), [], "said once");
    scene.read();
    // Half a line is as half as with events.
    scene.change(140);
    scene.look.ends = false;
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    assert_eq!(scene.tracker.held(), Some(Held::NoEnd));
    // Another file was renamed there, or its writer died: it has to grow old.
    scene.replace(140);
    assert!(!scene.is_read_within(POLL * 2));
    assert!(scene.is_read_within(OLD));
}

#[test]
fn an_event_outruns_a_look() {
    // What a poll saw is told of afterwards.
    let mut scene = Scene::running();
    scene.change(110);
    assert!(!scene.is_read_within(POLL));
    scene.event(Event::Written);
    assert!(!scene.is_read_within(Duration::from_secs(5)));
    scene.event(Event::Closed);
    assert!(scene.is_read_within(SETTLE));
    assert_eq!(scene.tracker.notes(), []);
}

#[test]
fn after_lost_events_it_is_as_at_start() {
    let mut scene = Scene::running();
    scene.replace(110);
    scene.event(Event::Unclear);
    assert!(!scene.is_read_within(EQUAL));
    assert!(scene.is_read_within(SETTLE));
    // But what is in force is known: the same file with half a line is half-written, however old.
    let mut scene = Scene::running();
    scene.change(110);
    (scene.look.ends, scene.look.age) = (false, OLD);
    scene.event(Event::Unclear);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
    // And nothing changed, most often.
    let mut scene = Scene::running();
    scene.event(Event::Unclear);
    assert!(!scene.is_read_within(Duration::from_secs(60)));
}

#[test]
fn a_file_that_goes_is_told_of() {
    let mut scene = Scene::running();
    scene.look.state = None;
    scene.event(Event::Unclear);
    assert!(scene.is_read_within(SETTLE));
}

#[test]
fn what_never_settles_is_looked_at_nevertheless() {
    let mut scene = Scene::running();
    let began = scene.now;
    scene.event(Event::Written);
    assert_eq!(scene.tracker.due(), began + SETTLE);
    while scene.tracker.due() > scene.now {
        scene.advance(SETTLE / 5);
        scene.event(Event::Written);
        assert!(scene.now - began <= SETTLE_MAX);
    }
    assert!(scene.now - began >= SETTLE * 5, "several events are one change");
}
