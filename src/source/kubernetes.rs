//! Services, EndpointSlices and Namespaces, as the Kubernetes API has them and as they change.
//!
//! [`spawn`] starts a task for each kind; what they see comes out of a channel in the order in which it came. They never
//! end: an API server that is away is tried again, and what it said before goes on. [`Health`] tells how current that is.

mod again;
mod backoff;
mod body;
mod client;
mod convert;
mod failures;
mod health;
mod pages;
mod past;
mod quiet;
mod room;
mod trouble;
mod watch;

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use again::Again;
pub use backoff::random;
pub use client::{Access, AccessError};
pub use convert::{ServiceObject, SliceObject};
pub use health::{Health, Kind, Mend, State};
pub use room::Share;
pub use watch::Delta;

use crate::zone::cluster::spec::Key;
use room::Room;
use watch::{News, Watch};

/// Events that wait to be applied, at most; then the API server waits.
const QUEUE: usize = 4096;

/// What happened.
#[derive(Debug)]
pub enum Change {
    /// To Services.
    Services(Delta<ServiceObject, Key>),
    /// To EndpointSlices.
    Slices(Delta<SliceObject, Key>),
    /// To Namespaces.
    Namespaces(Delta<Box<str>, Box<str>>),
}

impl Change {
    /// The namespace of the object that changed; None of a list, and of namespaces themselves.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Services(Delta::Apply(service)) => Some(&service.key.namespace),
            Self::Slices(Delta::Apply(slice)) => Some(&slice.key.namespace),
            Self::Services(Delta::Delete(key)) | Self::Slices(Delta::Delete(key)) => Some(&key.namespace),
            Self::Services(Delta::List { .. }) | Self::Slices(Delta::List { .. }) | Self::Namespaces(_) => None,
        }
    }
}

/// A change, and when it came from the API server.
#[derive(Debug)]
pub struct Event {
    /// What happened; None where nothing did, but the view is right again.
    pub change: Option<Change>,
    /// When it came here.
    pub arrived: Instant,
    /// What [`Health::mended`] is to be told when it is applied.
    pub mend: Option<Mend>,
    /// The room that it takes until it is applied.
    pub share: Share,
}

impl Event {
    fn new<T, K>(news: News<T, K>, change: fn(Delta<T, K>) -> Change) -> Self {
        Self { change: news.delta.map(change), arrived: news.arrived, mend: news.mend, share: news.share }
    }
}

/// The running source. Dropping it ends it.
pub struct Kubernetes {
    events: Receiver<Event>,
    health: Arc<Health>,
    again: Again,
    _tasks: JoinSet<()>,
}

impl Kubernetes {
    /// What happens next. May be dropped and called again.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // Tasks end with the receiver, not before.
            None => std::future::pending().await,
        }
    }

    /// What has happened already and waits.
    pub fn waiting(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// How current all this is.
    #[must_use]
    pub const fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Lists a kind anew.
    #[must_use]
    pub const fn again(&self) -> &Again {
        &self.again
    }
}

/// Starts to watch.
///
/// # Errors
/// Where the way to the API server is not described as it should be; not where nobody is there.
pub async fn spawn(access: Access) -> Result<Kubernetes, AccessError> {
    // One of the providers that rustls could use; the error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    access.config().await?;
    let (health, again) = (Arc::new(Health::default()), Again::default());
    let (sender, events) = channel(QUEUE);
    let room = Room::default();
    let mut tasks = JoinSet::new();
    let services = Watch {
        kind: Kind::Services,
        asked: again.asked(Kind::Services),
        stream: |client| watcher(Api::<Service>::all(client), watcher::Config::default()).boxed(),
        convert: convert::service,
        key: convert::key,
        size: room::service,
        room: room.clone(),
    };
    let slices = Watch {
        kind: Kind::EndpointSlices,
        asked: again.asked(Kind::EndpointSlices),
        stream: |client| watcher(Api::<EndpointSlice>::all(client), watcher::Config::default()).boxed(),
        convert: convert::slice,
        key: convert::key,
        size: room::slice,
        room: room.clone(),
    };
    let namespaces = Watch {
        kind: Kind::Namespaces,
        asked: again.asked(Kind::Namespaces),
        stream: |client| watcher(Api::<PartialObjectMeta<Namespace>>::all(client), watcher::Config::default()).boxed(),
        convert: convert::namespace,
        key: |object| object.metadata.name.as_deref().unwrap_or_default().into(),
        size: |_| room::OBJECT,
        room,
    };
    let to = |sender: &Sender<Event>| (access.clone(), Arc::clone(&health), sender.clone());
    tasks.spawn(services.follow(to(&sender), |news| Event::new(news, Change::Services)));
    tasks.spawn(slices.follow(to(&sender), |news| Event::new(news, Change::Slices)));
    tasks.spawn(namespaces.follow(to(&sender), |news| Event::new(news, Change::Namespaces)));
    Ok(Kubernetes { events, health, again, _tasks: tasks })
}
