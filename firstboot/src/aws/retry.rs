//! Trying again: with growing pauses that differ from node to node, and within a
//! budget of time.

use std::time::{Duration, UNIX_EPOCH};

use crate::system::{Clock, NetworkError};

/// How long something is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The time for all attempts and the pauses between them. No pause is begun that
    /// would end after it, and an attempt is told how much is left.
    pub total: Duration,
    /// The pause after the first attempt; each one after it is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Budget {
    /// For a service of AWS that is likely to answer: a minute in all, with pauses
    /// from half a second to ten.
    pub const SERVICE: Self = Self {
        total: Duration::from_secs(60),
        first: Duration::from_millis(500),
        longest: Duration::from_secs(10),
    };

    /// For the metadata service, which is near: a minute in all, with pauses of at
    /// most a second, as nodeadm has it.
    pub const METADATA: Self = Self {
        total: Duration::from_secs(60),
        first: Duration::from_millis(100),
        longest: Duration::from_secs(1),
    };

    /// The same pauses within another time.
    #[must_use]
    pub const fn within(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }
}

/// Tries something until it works, fails for good, or the budget is spent; then the
/// last error is given. `attempt` gets the time that is left, at least a millisecond.
pub fn retry<T, E>(
    clock: &dyn Clock,
    budget: Budget,
    is_transient: impl Fn(&E) -> bool,
    mut attempt: impl FnMut(Duration) -> Result<T, E>,
) -> Result<T, E> {
    let started = clock.elapsed();
    let left = || {
        budget
            .total
            .saturating_sub(clock.elapsed().saturating_sub(started))
    };
    let mut pause = budget.first;
    loop {
        let error = match attempt(left().max(Duration::from_millis(1))) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let wait = jitter(clock, pause.min(budget.longest));
        if !is_transient(&error) || wait >= left() {
            return Err(error);
        }
        clock.pause(wait);
        pause = pause.saturating_mul(2);
    }
}

/// Half of the time and a part of the other half. A thousand nodes that start at
/// once differ in the nanoseconds of their clocks, which is all that is needed here.
fn jitter(clock: &dyn Clock, time: Duration) -> Duration {
    let nanoseconds = clock
        .now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_nanos();
    // The low digits, spread over the range; clocks may tick in whole microseconds.
    let part = f64::from(nanoseconds.wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
    time.mul_f64(0.5 + part / 2.0)
}

/// Whether a request that got no answer may get one later. What a certificate or a
/// proxy says does not change by waiting.
pub(super) fn may_pass(error: &NetworkError) -> bool {
    matches!(
        error,
        NetworkError::Name { .. } | NetworkError::Connection { .. } | NetworkError::Deadline { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::system::pretended::Pretended;

    #[test]
    fn pauses_grow_to_the_longest_and_end_with_the_budget() {
        let clock = Pretended::default();
        let left = RefCell::new(Vec::new());
        let budget = Budget {
            total: Duration::from_secs(10),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(2),
        };
        let outcome: Result<(), &str> = retry(
            &clock,
            budget,
            |_| true,
            |time| {
                left.borrow_mut().push(time);
                Err("busy")
            },
        );
        assert_eq!(outcome, Err("busy"));
        let left = left.into_inner();
        assert!((6..=14).contains(&left.len()), "{left:?}");
        assert_eq!(left[0], Duration::from_secs(10));
        for pair in left.windows(2) {
            let pause = pair[0].saturating_sub(pair[1]);
            assert!(pause >= Duration::from_millis(500), "{left:?}");
            assert!(pause <= Duration::from_millis(2_100), "{left:?}");
        }
        assert!(clock.elapsed() <= Duration::from_secs(11));
    }

    #[test]
    fn what_fails_for_good_is_not_tried_again() {
        let clock = Pretended::default();
        let tries = Cell::new(0);
        let outcome: Result<(), bool> = retry(
            &clock,
            Budget::SERVICE,
            |passes| *passes,
            |_| {
                tries.set(tries.get() + 1);
                Err(tries.get() < 3)
            },
        );
        assert_eq!(outcome, Err(false));
        assert_eq!(tries.get(), 3);
    }
}
