//! A small memory of what was used last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps the `capacity` values that were used last, by their place in the file.
#[derive(Debug)]
pub(super) struct Recent<T> {
    capacity: usize,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    /// Value and the moment of its last use.
    values: HashMap<u64, (Arc<[T]>, u64)>,
    moment: u64,
}

impl<T> Recent<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            inner: Mutex::new(Inner {
                values: HashMap::new(),
                moment: 0,
            }),
        }
    }

    /// The value for `key`; `load` runs without the lock, so two threads may
    /// both load it.
    pub(super) fn get<E>(
        &self,
        key: u64,
        load: impl FnOnce() -> Result<Arc<[T]>, E>,
    ) -> Result<Arc<[T]>, E> {
        if let Some(value) = self.find(key) {
            return Ok(value);
        }
        let value = load()?;
        self.keep(key, &value);
        Ok(value)
    }

    fn find(&self, key: u64) -> Option<Arc<[T]>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.moment += 1;
        let now = inner.moment;
        let (value, used) = inner.values.get_mut(&key)?;
        *used = now;
        Some(value.clone())
    }

    fn keep(&self, key: u64, value: &Arc<[T]>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.values.len() >= self.capacity {
            // A walk over all costs little beside the read that led here.
            let oldest = inner
                .values
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            oldest.and_then(|key| inner.values.remove(&key));
        }
        let now = inner.moment;
        inner.values.insert(key, (value.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_not_used_for_longest() {
        let recent = Recent::new(2);
        let load = |key: u64| {
            let mut loaded = false;
            let value: Result<_, ()> = recent.get(key, || {
                loaded = true;
                Ok(Arc::from([key]))
            });
            assert_eq!(*value.expect("loads"), [key]);
            loaded
        };
        assert!(load(1) && load(2) && !load(1));
        assert!(load(3));
        assert!(!load(1) && load(2));
    }
}
