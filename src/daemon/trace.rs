//! Makes the programs report queries while a command (`edns trace`, `edns stats --watch --top`) reads them.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::state::DaemonState;

/// A running trace. Dropping it ends the trace.
pub(super) struct Trace {
    state: Rc<RefCell<DaemonState>>,
    events: OwnedFd,
}

/// Starts a trace.
///
/// # Errors
/// If a trace is already running (a ring buffer has one reader), or the file descriptor can't be duplicated.
pub(super) fn start(state: &Rc<RefCell<DaemonState>>) -> Result<Trace, String> {
    let mut inner = state.borrow_mut();
    if inner.is_traced {
        return Err(
            "another trace is running (`edns trace` or `edns stats --watch --top`), and only one can run at a time; \
             end it first"
                .into(),
        );
    }
    let events = inner.datapath.events().try_clone_to_owned().map_err(|e| e.to_string())?;
    inner.is_traced = true;
    inner.datapath.settings().set_trace(true);
    Ok(Trace { state: Rc::clone(state), events })
}

impl Trace {
    /// The ring buffer of query events.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        state.is_traced = false;
        state.datapath.settings().set_trace(false);
    }
}
