//! Serves the commands.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::core::Core;
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
pub(super) async fn serve(mut server: Server, core: Rc<RefCell<Core>>) {
    loop {
        tokio::select! {
            connection = server.accept() => match connection {
                Ok(connection) => drop(spawn_local(answer_or_log(connection, Rc::clone(&core)))),
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

async fn answer_or_log(connection: Connection, core: Rc<RefCell<Core>>) {
    if let Err(e) = answer(connection, &core).await {
        log::debug!("a command broke off: {e}");
    }
}

/// Nothing is borrowed while the command is waited for.
async fn answer(mut connection: Connection, core: &Rc<RefCell<Core>>) -> io::Result<()> {
    match connection.request().await? {
        Request::Lookup { name, qtype } => {
            let reply = core.borrow().lookup(&name, qtype);
            match reply {
                Ok(reply) => connection.reply([reply]).await,
                Err(e) => connection.error(&e).await,
            }
        }
        Request::Records => {
            let mut slot = 0;
            loop {
                let records = core.borrow().records(slot, RECORDS_SLICE);
                let Some(records) = records else { return Ok(()) };
                connection.reply(records).await?;
                slot += RECORDS_SLICE;
            }
        }
        Request::Stats => {
            let stats = core.borrow().stats()?;
            connection.reply([stats]).await
        }
        Request::Servers => {
            let servers = core.borrow().servers();
            connection.reply([servers]).await
        }
        Request::Interfaces => {
            let attached: Vec<_> = core.borrow().attached.iter().map(|p| (p.ifindex, p.name.clone())).collect();
            connection.reply([attached]).await
        }
        Request::Trace => match trace::start(core) {
            Ok(trace) => {
                connection.reply_with_fd(trace.events()).await?;
                connection.closed().await;
                Ok(())
            }
            Err(e) => connection.error(&e).await,
        },
        Request::Pause { seconds } => {
            let said = core.borrow_mut().set_paused(true);
            log::warn!("paused by command: everything passes to the DNS server");
            if let Some(seconds) = seconds {
                spawn_local(resume_after(Duration::from_secs(seconds), said, Rc::clone(core)));
            }
            connection.reply([()]).await
        }
        Request::Resume => {
            core.borrow_mut().set_paused(false);
            log::info!("resumed by command");
            connection.reply([()]).await
        }
    }
}

/// Ends a pause, unless something was said since.
async fn resume_after(time: Duration, said: u64, core: Rc<RefCell<Core>>) {
    sleep(time).await;
    let core = &mut *core.borrow_mut();
    if core.pause == (true, said) {
        core.set_paused(false);
        log::info!("the pause is over");
    }
}
