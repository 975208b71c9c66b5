//! The BPF programs: loading them, their heartbeat and servers, and the counters and events that they write.

pub mod counters;
mod error;
mod events;
mod ipvs;
mod kernel;
mod load;
mod outcome;
pub mod probe;
mod test_run;
mod variant;

pub use self::error::LoadError;
pub use self::events::{QueryEvent, QueryEvents};
pub use self::load::{BEAT, BEAT_MAX, Datapath};
pub use self::outcome::{OUTCOMES, Outcome};
pub use self::test_run::TestRun;
pub use self::variant::{Options, Program};
