//! Answers the commands (`edns stats`, `edns lookup`, …) on the control socket.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::state::{DaemonState, Pause};
use super::{ACCEPT_RETRY, trace};
use crate::control::Request;
use crate::control::server::{Connection, Server};

/// Index slots that `edns records` reads before other tasks of the event loop run.
const RECORDS_SLICE: usize = 16384;
/// Interval at which the socket is bound again if it is missing: another daemon may have replaced it and exited.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Accepts commands; never returns.
pub(super) async fn serve(mut server: Server, state: Rc<RefCell<DaemonState>>) {
    loop {
        tokio::select! {
            connection = server.accept() => match connection {
                Ok(connection) => drop(spawn_local(answer_or_log(connection, Rc::clone(&state)))),
                Err(e) => {
                    log::warn!("the socket for commands: {e}");
                    sleep(ACCEPT_RETRY).await;
                }
            },
            () = sleep(CHECK_INTERVAL) => {
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

/// Answers one command. The state is not borrowed while the client reads or writes, because the heartbeat needs it.
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
            let count = state.borrow_mut().set_paused(true);
            log::warn!("paused by command: all queries pass to the DNS server");
            if let Some(seconds) = seconds {
                spawn_local(resume_after(Duration::from_secs(seconds), count, Rc::clone(state)));
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

/// Ends a pause after this time, unless another command paused or resumed meanwhile (`count`).
async fn resume_after(time: Duration, count: u64, state: Rc<RefCell<DaemonState>>) {
    sleep(time).await;
    let state = &mut *state.borrow_mut();
    if state.pause == (Pause { is_on: true, count }) {
        state.set_paused(false);
        log::info!("pause ended: resumed");
    }
}
