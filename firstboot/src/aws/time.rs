//! Times as services write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads RFC 3339, such as `2026-11-25T16:30:00Z`, with a fraction and an offset from
/// UTC if there are any.
pub fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let (date, time) = (text.get(..10)?, text.get(11..19)?);
    if !matches!(text.as_bytes().get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let rest = text.get(19..)?;
    let zone = rest.trim_start_matches(|it: char| it == '.' || it.is_ascii_digit());
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let sign = match zone.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (number(hours)? * 3600 + number(minutes)? * 60)
        }
    };
    seconds(year, month, day, time).map(|local| since(local - offset))?
}

/// Reads the date of an HTTP answer, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn parse_http(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_whitespace().skip(1);
    let day = number(words.next()?)?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;
    let year = number(words.next()?)?;
    seconds(year, month, day, words.next()?).map(since)?
}

fn number(text: &str) -> Option<i64> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Seconds since 1970.
fn seconds(year: i64, month: i64, day: i64, time: &str) -> Option<i64> {
    let mut parts = time.splitn(3, ':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let is_time = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_time {
        return None;
    }
    // Years are counted from March, so that the leap day is the last of one.
    let years = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = years * 365 + years / 4 - years / 100 + years / 400 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn since(seconds: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::rfc3339;

    #[test]
    fn times_of_services() {
        for (text, expected) in [
            ("2026-11-25T16:30:00Z", "2026-11-25T16:30:00.000Z"),
            ("2024-02-29T23:59:59.123Z", "2024-02-29T23:59:59.000Z"),
            ("2026-01-01T01:00:00+02:00", "2025-12-31T23:00:00.000Z"),
            ("1970-01-01T00:00:00-00:30", "1970-01-01T00:30:00.000Z"),
        ] {
            assert_eq!(rfc3339(parse(text).unwrap()), expected);
        }
        for text in [
            "",
            "2026-11-25",
            "2026-13-01T00:00:00Z",
            "2026-11-25T16:30:00",
            "1969-01-01T00:00:00Z",
            "2026-11-25T1é:30:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let http = parse_http("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(rfc3339(http), "1994-11-06T08:49:37.000Z");
        assert_eq!(parse_http("yesterday"), None);
    }
}
