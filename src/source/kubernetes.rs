//! Services, EndpointSlices and Namespaces of the Kubernetes API, and their changes.
//!
//! [`spawn`] starts one task per kind; their changes arrive in one channel, in order for each kind. The tasks never end: when
//! the API server is unreachable they retry, and the objects read before remain valid. [`Health`] reports how current the
//! view is.

mod backoff;
mod body;
mod budget;
mod client;
mod delta;
mod errors;
mod failures;
mod health;
mod history;
mod objects;
mod pages;
mod relist;
mod silence;
mod watch;

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use backoff::random;
pub use budget::{Permit, WaitingUpdates};
pub use client::{Access, AccessError};
pub use delta::{AnyDelta, Delta, Index, ListPart, Object};
pub use health::{Health, Kind, KindState, Recovery};
pub use objects::{NamespaceObject, ServiceObject, SliceObject};
pub use relist::Relist;

use budget::Budget;
use watch::{Context, Watch};

/// The most updates that wait to be applied; after that the watches stop reading.
const QUEUE: usize = 4096;

/// One message from a watch.
#[derive(Debug)]
pub struct Update<D = AnyDelta> {
    /// The change. None: nothing changed, but the view is current again.
    pub delta: Option<D>,
    /// When it arrived from the API server.
    pub arrived: Instant,
    /// The daemon passes it to [`Health::recovered`] after the change is applied.
    pub recovery: Option<Recovery>,
    /// The share of the budget that the change takes, to be dropped after the change is applied.
    pub permit: Permit,
}

impl<D> Update<D> {
    fn map<E>(self, wrap: impl FnOnce(D) -> E) -> Update<E> {
        let Self { delta, arrived, recovery, permit } = self;
        Update { delta: delta.map(wrap), arrived, recovery, permit }
    }
}

/// The running watches. Dropping it ends them.
pub struct Kubernetes {
    updates: Receiver<Update>,
    health: Arc<Health>,
    relist: Relist,
    waiting: WaitingUpdates,
    _tasks: JoinSet<()>,
}

impl Kubernetes {
    /// Waits for the next update. Cancel-safe.
    pub async fn next(&mut self) -> Update {
        match self.updates.recv().await {
            Some(update) => update,
            // The tasks end only with the receiver.
            None => std::future::pending().await,
        }
    }

    /// The next update, if one is queued.
    pub fn try_next(&mut self) -> Option<Update> {
        self.updates.try_recv().ok()
    }

    /// How current the view is.
    #[must_use]
    pub const fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The updates that wait to be applied.
    #[must_use]
    pub const fn waiting(&self) -> &WaitingUpdates {
        &self.waiting
    }

    /// Requests lists.
    #[must_use]
    pub const fn relist(&self) -> &Relist {
        &self.relist
    }
}

/// Starts the watches.
///
/// # Errors
/// If the kubeconfig or the service account is missing or invalid. An unreachable API server is no error: it is retried.
pub async fn spawn(access: Access) -> Result<Kubernetes, AccessError> {
    // Fails if a provider is installed already, which is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    access.config().await?;
    let context =
        Context { connector: access, health: Arc::default(), relist: Relist::default(), budget: Budget::default() };
    let (sender, updates) = channel(QUEUE);
    let mut tasks = JoinSet::new();
    start(&mut tasks, &context, &sender, AnyDelta::Services);
    start(&mut tasks, &context, &sender, AnyDelta::Slices);
    start(&mut tasks, &context, &sender, AnyDelta::Namespaces);
    let Context { health, relist, budget, .. } = context;
    Ok(Kubernetes { updates, health, relist, waiting: budget.waiting().clone(), _tasks: tasks })
}

fn start<T>(tasks: &mut JoinSet<()>, context: &Context<Access>, sender: &Sender<Update>, wrap: fn(Delta<T>) -> AnyDelta)
where
    T: Object<Key: Send> + Send + 'static,
{
    let (context, sender) = (context.clone(), sender.clone());
    tasks.spawn(async move { Watch::<T>::follow(context, sender, move |update| update.map(wrap)).await });
}
