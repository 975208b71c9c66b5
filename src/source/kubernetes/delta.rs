//! Changes to objects, in one form for every kind: apply, delete, reset.
//!
//! A watch turns what the API server sends into [`Delta`]s of one [`Object`] type, and [`Delta::apply_to`] hands them to an
//! [`Index`]. A further kind needs an [`Object`], a [`Kind`], a variant of [`AnyDelta`], and an [`Index`] that keeps it.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::health::Kind;
use super::objects::{NamespaceObject, ServiceObject, SliceObject};

/// One kind of objects, reduced to what names depend on.
pub trait Object: Sized {
    /// The kind, for health, logs and metrics.
    const KIND: Kind;

    /// The object as the API has it.
    type Resource: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static;

    /// Identifies an object among those of its kind.
    type Key;

    /// Keeps what names depend on, and drops the rest.
    fn from_resource(resource: Self::Resource) -> Self;

    /// The key of an object of the API.
    fn key_of(resource: &Self::Resource) -> Self::Key;

    /// The key of this object.
    fn key(&self) -> &Self::Key;

    /// The namespace of the object with this key; None if objects of this kind have none.
    fn namespace_of(key: &Self::Key) -> Option<&str>;

    /// Endpoints and ports, at least `OBJECT_MIN`: a measure of the memory that the object takes.
    fn size(&self) -> usize;
}

/// One change to the objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta<T: Object> {
    /// The object is new, or it changed.
    Apply(T),
    /// The object was deleted.
    Delete(T::Key),
    /// A part of a list of all objects.
    Reset(Vec<T>, ListPart),
}

/// The position of a part in its list. Long lists come in several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPart {
    /// The list begins with this part.
    pub is_first: bool,
    /// The list ends with this part: objects on no part of it no longer exist.
    pub is_last: bool,
}

/// A store of the objects of one kind.
pub trait Index<T: Object> {
    /// Adds an object, or replaces the one with its key.
    fn apply(&mut self, object: T);

    /// Removes an object. Does nothing where the key is unknown.
    fn delete(&mut self, key: &T::Key);

    /// Adds or replaces these objects; after the last part, removes all objects that no part had.
    fn reset(&mut self, objects: Vec<T>, part: ListPart);
}

impl<T: Object> Delta<T> {
    /// The namespace of the object that changed. None for a list, and if objects of this kind have none.
    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Apply(object) => T::namespace_of(object.key()),
            Self::Delete(key) => T::namespace_of(key),
            Self::Reset(..) => None,
        }
    }

    /// Applies the change. Returns the kind if this completes a list of it.
    pub fn apply_to(self, index: &mut impl Index<T>) -> Option<Kind> {
        match self {
            Self::Apply(object) => index.apply(object),
            Self::Delete(key) => index.delete(&key),
            Self::Reset(objects, part) => {
                index.reset(objects, part);
                return part.is_last.then_some(T::KIND);
            }
        }
        None
    }
}

/// One change to objects of any kind.
#[derive(Debug)]
pub enum AnyDelta {
    /// A change to a Service.
    Services(Delta<ServiceObject>),
    /// A change to an EndpointSlice.
    Slices(Delta<SliceObject>),
    /// A change to a Namespace.
    Namespaces(Delta<NamespaceObject>),
}

impl AnyDelta {
    /// The namespace of the object that changed. None for a list, and for Namespaces.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Services(delta) => delta.namespace(),
            Self::Slices(delta) => delta.namespace(),
            Self::Namespaces(delta) => delta.namespace(),
        }
    }

    /// Applies the change. Returns the kind if this completes a list of it.
    pub fn apply_to<I>(self, index: &mut I) -> Option<Kind>
    where
        I: Index<ServiceObject> + Index<SliceObject> + Index<NamespaceObject>,
    {
        match self {
            Self::Services(delta) => delta.apply_to(index),
            Self::Slices(delta) => delta.apply_to(index),
            Self::Namespaces(delta) => delta.apply_to(index),
        }
    }
}
