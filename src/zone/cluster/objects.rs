//! Changes of objects from the API: single events, and lists of all objects of a kind.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::model::{Entry, Service, Slice};
use super::spec::{Key, ServiceSpec, SliceSpec};
use super::{Cluster, PendingEntry};

impl Cluster {
    /// Sets the arrival time of the following changes.
    pub const fn set_arrival(&mut self, arrived: Instant) {
        self.pending.arrived = Some(arrived);
    }

    /// A namespace exists.
    pub fn apply_namespace(&mut self, name: &str) {
        if self.objects.namespaces.insert(name.into()) {
            self.pending.namespaces.entry(name.into()).or_insert(false);
        }
    }

    /// A namespace no longer exists.
    pub fn delete_namespace(&mut self, name: &str) {
        if self.objects.namespaces.remove(name) {
            self.pending.namespaces.entry(name.into()).or_insert(true);
        }
    }

    /// Begins a list of all namespaces.
    pub fn begin_namespaces(&mut self) {
        self.listed.namespaces.clear();
    }

    /// Adds a part of the list of all namespaces.
    pub fn list_namespaces(&mut self, names: impl IntoIterator<Item = impl AsRef<str>>) {
        for name in names {
            self.apply_namespace(name.as_ref());
            self.listed.namespaces.insert(name.as_ref().into());
        }
    }

    /// Ends the list of all namespaces: those that it did not contain no longer exist.
    pub fn end_namespaces(&mut self) {
        let seen = std::mem::take(&mut self.listed.namespaces);
        let gone: Vec<Box<str>> = self.objects.namespaces.difference(&seen).cloned().collect();
        gone.iter().for_each(|n| self.delete_namespace(n));
    }

    /// A Service exists, in this state.
    pub fn apply_service(&mut self, key: Key, spec: &ServiceSpec) {
        let service = Service::new(spec);
        let old = self.objects.services.get(&key).and_then(|e| e.service.as_deref());
        if old.is_some_and(|old| *old == service || self.inventory.is_hidden_service(&key, old, &service)) {
            return;
        }
        self.put_service(key, service);
        self.hide_if_urgent();
    }

    /// A Service no longer exists.
    pub fn delete_service(&mut self, key: &Key) {
        if self.objects.services.get(key).is_some_and(|e| e.service.is_some()) {
            self.set_service(key.clone(), None);
        }
    }

    pub(super) fn put_service(&mut self, key: Key, service: Service) {
        self.set_service(key, Some(Arc::new(service)));
    }

    fn set_service(&mut self, key: Key, service: Option<Arc<Service>>) {
        let new = service.clone();
        if let Some(new) = &new {
            self.inventory.count_service(&key.namespace, new, true);
        }
        let mut old = None;
        let items = new.as_ref().map_or(0, |s| s.items());
        let key = self.change_entry(key, items, |entry| {
            old = std::mem::replace(&mut entry.service, service);
            entry.items += items;
            entry.items -= old.as_ref().map_or(0, |s| s.items());
        });
        if let Some(old) = old {
            self.inventory.count_service(&key.namespace, &old, false);
        }
    }

    /// Begins a list of all Services.
    pub fn begin_services(&mut self) {
        self.listed.services.clear();
    }

    /// Adds a part of the list of all Services.
    pub fn list_services(&mut self, services: impl IntoIterator<Item = (Key, ServiceSpec)>) {
        for (key, spec) in services {
            self.apply_service(key.clone(), &spec);
            self.listed.services.insert(key);
        }
    }

    /// Ends the list of all Services: those that it did not contain no longer exist.
    pub fn end_services(&mut self) {
        let seen = std::mem::take(&mut self.listed.services);
        let known = self.objects.services.iter().filter(|(_, e)| e.service.is_some());
        let gone: Vec<Arc<Key>> = known.map(|(key, _)| key).filter(|k| !seen.contains(&***k)).cloned().collect();
        gone.iter().for_each(|key| self.delete_service(key));
    }

    /// An EndpointSlice exists, in this state.
    pub fn apply_slice(&mut self, key: Key, spec: &SliceSpec) {
        let slice = Slice::new(spec);
        // Without a Service the names of its endpoints have an empty label, so no query can have them. The slice counts for the
        // reverse names of its addresses.
        let of = Key::new(&key.namespace, spec.service.as_deref().unwrap_or_default());
        let is_same = |old: &Slice| *old == slice || self.inventory.is_hidden_slice(&key, old, &slice);
        if self.slices.get(&key).is_some_and(|(old_of, old)| **old_of == of && is_same(old)) {
            return;
        }
        self.put_slice(key, of, slice);
        self.hide_if_urgent();
    }

    pub(super) fn put_slice(&mut self, key: Key, of: Key, slice: Slice) {
        let slice = Arc::new(slice);
        self.inventory.count_slice(&key.namespace, &slice, true);
        self.delete_slice(&key);
        let items = slice.items();
        let of = self.change_entry(of, items, |entry| {
            entry.items += items;
            entry.slices.push(Arc::clone(&slice));
        });
        self.slices.insert(key, (of, slice));
    }

    /// An EndpointSlice no longer exists.
    pub fn delete_slice(&mut self, key: &Key) {
        if let Some((of, slice)) = self.slices.remove(key) {
            let items = slice.items();
            self.change_entry(Key::clone(&of), items, |entry| {
                entry.items -= items;
                if let Some(at) = entry.slices.iter().position(|s| Arc::ptr_eq(s, &slice)) {
                    entry.slices.swap_remove(at);
                }
            });
            self.inventory.count_slice(&key.namespace, &slice, false);
        }
    }

    /// Begins a list of all EndpointSlices.
    pub fn begin_slices(&mut self) {
        self.listed.slices.clear();
    }

    /// Adds a part of the list of all EndpointSlices.
    pub fn list_slices(&mut self, slices: impl IntoIterator<Item = (Key, SliceSpec)>) {
        for (key, spec) in slices {
            self.apply_slice(key.clone(), &spec);
            self.listed.slices.insert(key);
        }
    }

    /// Ends the list of all EndpointSlices: those that it did not contain no longer exist.
    pub fn end_slices(&mut self) {
        let seen = std::mem::take(&mut self.listed.slices);
        let gone: Vec<Key> = self.slices.keys().filter(|k| !seen.contains(k)).cloned().collect();
        gone.iter().for_each(|key| self.delete_slice(key));
    }

    /// Changes a Service's entry by an object with `items` items, and keeps the old entry for the next commit.
    fn change_entry(&mut self, key: Key, items: usize, change: impl FnOnce(&mut Entry)) -> Arc<Key> {
        let (key, mut entry) =
            self.objects.services.remove_entry(&key).unwrap_or_else(|| (Arc::new(key), Entry::default()));
        let since = self.pending.arrived.unwrap_or_else(Instant::now);
        let pending = self.pending.entries.entry(Arc::clone(&key)).or_insert_with(|| PendingEntry {
            entry: entry.clone(),
            since: Some(since),
            changed: 0,
        });
        pending.changed = pending.changed.saturating_add(items);
        // The first commit takes all entries anyway.
        if self.begun && self.dependents.contains_key(&*key) {
            self.pending.causes.entry(Arc::clone(&key)).or_insert(since);
        }
        let zone = &self.renderer.config.zone;
        let before = entry.depends_on(zone);
        change(&mut entry);
        let after = entry.depends_on(zone);
        if before != after {
            if let Some(before) = before {
                remove_dependent(&mut self.dependents, &before, &key);
            }
            if let Some(after) = after {
                self.dependents.entry(after).or_default().insert(Arc::clone(&key));
            }
        }
        self.inventory.count_all_of(&key, entry.items);
        if !entry.is_empty() {
            self.objects.services.insert(Arc::clone(&key), entry);
        }
        key
    }
}

fn remove_dependent(dependents: &mut HashMap<Key, BTreeSet<Arc<Key>>>, on: &Key, key: &Arc<Key>) {
    if let Some(keys) = dependents.get_mut(on) {
        keys.remove(key);
        if keys.is_empty() {
            dependents.remove(on);
        }
    }
}
