//! What is said of failures: in words of the API server's or ours, and once where several kinds have the same cure.

use std::io;
use std::iter::successors;

use kube::runtime::watcher;

use super::client::AccessError;
use super::past::Another;

/// What there is to be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cure {
    /// To wait.
    None,
    /// To give the rights that are missing.
    Rights,
    /// To name the CA that is the API server's.
    Authority,
    /// To name the API server as its certificate does.
    Name,
}

impl Cure {
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let cure = |e: &(dyn std::error::Error + 'static)| {
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
        causes(error).find_map(cure).unwrap_or(Self::None)
    }
}

/// An error, and each that caused the one before.
pub(super) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    successors(Some(error), |e| match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // Else it is passed over.
        Some(inner) => Some(inner),
        None => e.source(),
    })
}

/// Whether the API server has another past than the one that was seen.
pub(super) fn is_of_past(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|e| e.is::<Another>())
}

/// All that an error says, and what helps.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let told = told_once(causes(error).map(text));
    match Cure::of(error) {
        Cure::Rights => format!("{told}; configs/kubernetes/rbac.yaml has the rights that are needed"),
        Cure::None | Cure::Authority | Cure::Name => told,
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
            // As a cause it comes in its box.
            _ => error.downcast_ref::<Box<kube::core::Status>>().map(|status| &**status),
        },
    }
}

/// An error, without the Rust of what the API server said.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    status(error)
        .map_or_else(|| error.to_string(), |s| format!("the API server says {} {}: {}", s.code, s.reason, s.message))
}

/// Causes, each behind what it caused, without those that were told with it.
fn told_once(causes: impl Iterator<Item = String>) -> String {
    causes.fold(String::new(), |told, cause| match told {
        told if told.is_empty() => cause,
        told if told.contains(&cause) => told,
        told => format!("{told}: {cause}"),
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
    fn each_cause_is_told_once() {
        let api = || kube::Error::Api(forbidden());
        let told = "the API server says 403 Forbidden: services is forbidden: User \"u\" cannot watch; \
            configs/kubernetes/rbac.yaml has the rights that are needed";
        let service = |e: &str| kube::Error::Service(e.into());
        let reset = || kube::Error::ReadEvents(io::Error::other("reset"));
        for (error, told) in [
            (watcher::Error::WatchStartFailed(api()), told),
            (watcher::Error::InitialListFailed(api()), told),
            (watcher::Error::WatchFailed(api()), told),
            (watcher::Error::WatchError(forbidden()), told),
            (
                watcher::Error::WatchStartFailed(service("refused")),
                "failed to start watching object: ServiceError: refused",
            ),
            (watcher::Error::WatchFailed(reset()), "watch stream failed: Error reading events stream: reset"),
        ] {
            assert_eq!(describe(&error), told);
        }
    }
}
