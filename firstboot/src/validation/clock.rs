//! `clock-validation`: the clock is right enough for certificates and signatures.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::api_server_endpoint::host_and_port;
use super::{Finding, Subject};
use crate::system::{self, NetworkError, Request};

/// 2025-01-01T00:00:00Z: a clock before it was never set.
const EARLIEST: u64 = 1_735_689_600;

/// AWS refuses signatures that are older or younger ("Signature Version 4",
/// five minutes).
const MOST: u64 = 300;

/// Worth knowing, in seconds.
const MUCH: u64 = 30;

const LIMIT: Duration = Duration::from_secs(10);

const HINT: &str = "let chrony, systemd-timesyncd or the hypervisor set the clock; \
                    `timedatectl status` shows it";

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    if seconds(subject.system.now()) < EARLIEST {
        return Ok(Finding::failed_for_now(
            "the clock was never set: it stands before 2025",
            HINT,
        ));
    }
    if !subject.is_hybrid() {
        return Ok(Finding::ok("the clock is set; EC2 keeps it right"));
    }
    let endpoint = &subject.config.spec.cluster.api_server_endpoint;
    let Some((host, _)) = host_and_port(endpoint) else {
        return Ok(Finding::could_not_run("no server is known to ask"));
    };
    let url = format!("{}/readyz", endpoint.trim_end_matches('/'));
    let request = Request {
        limit: subject.at_most(LIMIT),
        authorities: subject.config.spec.cluster.certificate_authority_pem(),
        ..Request::new("GET", url)
    };
    let answer = match subject.system.send(&request) {
        Ok(answer) => answer,
        Err(error @ NetworkError::Tls { .. }) => {
            return Ok(Finding::could_not_run(format!(
                "{error}; is the clock right?"
            )));
        }
        Err(error) => return Ok(Finding::could_not_run(error.to_string())),
    };
    let Some(there) = answer.header("date").and_then(http_date) else {
        return Ok(Finding::could_not_run(format!(
            "{host} does not say its time"
        )));
    };
    let here = seconds(subject.system.now());
    let seen = format!(
        "the clock is {} s {} that of {host}",
        here.abs_diff(there),
        if here < there { "behind" } else { "ahead of" },
    );
    Ok(match here.abs_diff(there) {
        skew if skew > MOST => Finding::failed_for_now(seen, HINT),
        skew if skew > MUCH => Finding::warning(seen, HINT),
        _ => Finding::ok(seen),
    })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that
/// servers may write (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let rest = text.split_once(", ")?.1.strip_suffix(" GMT")?;
    let mut words = rest.split(' ');
    let day: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|year| (1970..10_000).contains(year))?;
    let mut time = words.next()?.split(':').map(str::parse::<u64>);
    let mut number = |below| time.next()?.ok().filter(|number| *number < below);
    let (hour, minute, second) = (number(24)?, number(60)?, number(61)?);
    // Counted in years that begin in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::http_date;

    #[test]
    fn dates_of_servers() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2028 12:00:00 GMT", Some(1_835_438_400)),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), expected, "{text}");
        }
    }
}
