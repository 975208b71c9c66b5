//! Has programs tell of queries for as long as a command wants to know.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::state::DaemonState;

/// A trace that goes on until this is dropped.
pub(super) struct Trace {
    state: Rc<RefCell<DaemonState>>,
    events: OwnedFd,
}

/// Starts a trace.
///
/// # Errors
/// A text, where there is one already: a ring has one reader.
pub(super) fn start(state: &Rc<RefCell<DaemonState>>) -> Result<Trace, String> {
    let mut inner = state.borrow_mut();
    if inner.traced {
        return Err(
            "another trace is running (`edns trace` or `edns stats --watch --top`), and only one can run at a time; \
             end it first"
                .into(),
        );
    }
    let events = inner.datapath.events().try_clone_to_owned().map_err(|e| e.to_string())?;
    inner.traced = true;
    inner.datapath.settings().set_trace(true);
    Ok(Trace { state: Rc::clone(state), events })
}

impl Trace {
    /// The ring.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        state.traced = false;
        state.datapath.settings().set_trace(false);
    }
}
