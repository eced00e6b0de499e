//! When and how long to wait before trying again.

use std::time::Duration;

/// Attempts without any progress before giving up.
pub(super) const ATTEMPTS: u32 = 5;
/// Longest wait, whatever the server asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// Whether a response with this status may be different the next time.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// The wait before the attempt after `failed` failed ones: twice as long each
/// time, from `first`; longer when the server says so (`Retry-After`, RFC 9110
/// section 10.2.3, in seconds).
pub(super) fn wait(first: Duration, failed: u32, retry_after: Option<u64>) -> Duration {
    let own = first.saturating_mul(1 << failed.saturating_sub(1).min(16));
    let asked = Duration::from_secs(retry_after.unwrap_or(0));
    own.max(asked).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_not_for_ever() {
        let first = Duration::from_millis(500);
        assert_eq!(wait(first, 1, None), first);
        assert_eq!(wait(first, 3, None), Duration::from_secs(2));
        assert_eq!(wait(first, 40, None), LONGEST);
        assert_eq!(wait(first, 1, Some(7)), Duration::from_secs(7));
        assert_eq!(wait(first, 1, Some(u64::MAX)), LONGEST);
    }

    #[test]
    fn tells_what_may_pass() {
        assert!(is_transient(429) && is_transient(503));
        assert!(!is_transient(404) && !is_transient(403) && !is_transient(501));
    }
}
