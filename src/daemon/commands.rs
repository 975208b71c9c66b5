//! Serves the commands.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::state::DaemonState;
use super::trace;
use crate::control::Request;
use crate::control::server::{Connection, Server};

/// Index slots read before others get a turn.
const RECORDS_SLICE: usize = 16384;
/// After a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);
/// The socket is looked after so often: another daemon may have taken it and gone.
const CHECK: Duration = Duration::from_secs(2);

/// Never ends.
pub(super) async fn serve(mut server: Server, state: Rc<RefCell<DaemonState>>) {
    loop {
        tokio::select! {
            connection = server.accept() => match connection {
                Ok(connection) => drop(spawn_local(answer_or_log(connection, Rc::clone(&state)))),
                Err(e) => {
                    log::warn!("the socket for commands: {e}");
                    sleep(PAUSE).await;
                }
            },
            () = sleep(CHECK) => {
                if let Err(e) = server.ensure() {
                    log::warn!("the socket for commands: {e}");
                }
            }
        }
    }
}

async fn answer_or_log(connection: Connection, state: Rc<RefCell<DaemonState>>) {
    if let Err(e) = answer(connection, &state).await {
        log::debug!("command aborted: {e}");
    }
}

/// Nothing is borrowed while the command is waited for.
async fn answer(mut connection: Connection, state: &Rc<RefCell<DaemonState>>) -> io::Result<()> {
    match connection.request().await? {
        Request::Lookup { name, qtype } => {
            let reply = state.borrow().lookup(&name, qtype);
            match reply {
                Ok(reply) => connection.reply([reply]).await,
                Err(e) => connection.error(&e).await,
            }
        }
        Request::Records => {
            let mut slot = 0;
            loop {
                let records = state.borrow().records(slot, RECORDS_SLICE);
                let Some(records) = records else { return Ok(()) };
                connection.reply(records).await?;
                slot += RECORDS_SLICE;
            }
        }
        Request::Stats => {
            let stats = state.borrow().stats()?;
            connection.reply([stats]).await
        }
        Request::Servers => {
            let servers = state.borrow().servers();
            connection.reply([servers]).await
        }
        Request::Interfaces => {
            let attached: Vec<_> = state.borrow().attached.iter().map(|p| (p.ifindex, p.name.clone())).collect();
            connection.reply([attached]).await
        }
        Request::Trace => match trace::start(state) {
            Ok(trace) => {
                connection.reply_with_fd(trace.events()).await?;
                connection.closed().await;
                Ok(())
            }
            Err(e) => connection.error(&e).await,
        },
        Request::Pause { seconds } => {
            let said = state.borrow_mut().set_paused(true);
            log::warn!("paused by command: all queries pass to the DNS server");
            if let Some(seconds) = seconds {
                spawn_local(resume_after(Duration::from_secs(seconds), said, Rc::clone(state)));
            }
            connection.reply([()]).await
        }
        Request::Resume => {
            state.borrow_mut().set_paused(false);
            log::info!("resumed by command");
            connection.reply([()]).await
        }
    }
}

/// Ends a pause, unless something was said since.
async fn resume_after(time: Duration, said: u64, state: Rc<RefCell<DaemonState>>) {
    sleep(time).await;
    let state = &mut *state.borrow_mut();
    if state.pause == (true, said) {
        state.set_paused(false);
        log::info!("pause ended: resumed");
    }
}
