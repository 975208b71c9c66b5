//! The text of failures, without repetitions, and their remedies.

use std::io;
use std::iter::successors;

use kube::runtime::watcher;

use super::client::AccessError;
use super::history::HistoryMismatch;

/// What an operator can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Wait: the failure may be temporary.
    None,
    /// Grant the missing rights.
    Rights,
    /// Configure the CA of the API server.
    Authority,
    /// Use a name of the API server's certificate.
    Name,
}

impl Remedy {
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let remedy = |e: &(dyn std::error::Error + 'static)| {
            if status(e).is_some_and(|s| s.code == 403) {
                Some(Self::Rights)
            } else {
                match e.downcast_ref() {
                    Some(AccessError::Authority(..)) => Some(Self::Authority),
                    Some(AccessError::Name(..)) => Some(Self::Name),
                    _ => None,
                }
            }
        };
        causes(error).find_map(remedy).unwrap_or(Self::None)
    }
}

/// An error and its chain of causes.
pub(super) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    successors(Some(error), |e| match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // `source` skips the inner error.
        Some(inner) => Some(inner),
        None => e.source(),
    })
}

/// Whether the API server has a different history than the one that was seen.
pub(super) fn is_history_mismatch(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|e| e.is::<HistoryMismatch>())
}

/// The text of an error and its causes, with the remedy.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let text = join_causes(causes(error).map(text));
    match Remedy::of(error) {
        Remedy::Rights => format!("{text}; configs/kubernetes/rbac.yaml has the rights that are needed"),
        Remedy::None | Remedy::Authority | Remedy::Name => text,
    }
}

fn status<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a kube::core::Status> {
    match error.downcast_ref() {
        Some(
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status),
        ) => Some(status),
        _ => match error.downcast_ref() {
            Some(kube::Error::Api(status)) => Some(status),
            // As a cause, a status is boxed.
            _ => error.downcast_ref::<Box<kube::core::Status>>().map(|status| &**status),
        },
    }
}

/// The text of one error. For a status of the API server: its code, reason and message.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    status(error).map_or_else(
        || error.to_string(),
        |s| format!("the API server responded {} {}: {}", s.code, s.reason, s.message),
    )
}

/// Joins an error and its causes with colons, without causes whose text the error has already.
fn join_causes(causes: impl Iterator<Item = String>) -> String {
    causes.fold(String::new(), |text, cause| match text {
        text if text.is_empty() => cause,
        text if text.contains(&cause) => text,
        text => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn forbidden() -> Box<Status> {
        Status::failure("services is forbidden: User \"u\" cannot watch", "Forbidden").with_code(403).boxed()
    }

    #[test]
    fn each_cause_occurs_once_in_the_text() {
        let api = || kube::Error::Api(forbidden());
        let text = "the API server responded 403 Forbidden: services is forbidden: User \"u\" cannot watch; \
            configs/kubernetes/rbac.yaml has the rights that are needed";
        let service = |e: &str| kube::Error::Service(e.into());
        let reset = || kube::Error::ReadEvents(io::Error::other("reset"));
        for (error, text) in [
            (watcher::Error::WatchStartFailed(api()), text),
            (watcher::Error::InitialListFailed(api()), text),
            (watcher::Error::WatchFailed(api()), text),
            (watcher::Error::WatchError(forbidden()), text),
            (
                watcher::Error::WatchStartFailed(service("refused")),
                "failed to start watching object: ServiceError: refused",
            ),
            (watcher::Error::WatchFailed(reset()), "watch stream failed: Error reading events stream: reset"),
        ] {
            assert_eq!(describe(&error), text);
        }
    }
}
