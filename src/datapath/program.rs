//! The programs in the kernel: loading them, telling them what holds, and what they count and report.

pub mod counters;
mod events;
mod ipvs;
mod load;
pub mod probe;
mod settings;
mod test_run;

pub use self::events::{Event, Events};
pub use self::load::{Datapath, LoadError, Options, Program};
pub use self::settings::{Gate, Settings};
pub use self::test_run::TestRun;
