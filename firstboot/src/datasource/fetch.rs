//! User data from a web server: redirects, further tries, one time limit.

use std::time::Duration;

use super::answer::Answer;
use super::seed_line::{is_url, shown};
use super::{MAXIMUM_FILE, Outside};
use crate::system::{NetworkError, Request, Response};

/// One request has this long: a server that lives answers within a second, and one
/// that does not is worth another try.
const REQUEST: Duration = Duration::from_secs(10);
/// Most redirects on the way.
const REDIRECTS: usize = 5;
/// Pause before the second try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What one try gave.
enum Try {
    Body(Vec<u8>),
    /// It may work again soon.
    Again(String),
    /// It will not: the answer.
    Over(Answer),
}

/// Reads what lies at a URL, trying for at most `limit`.
pub(super) fn fetch(url: &str, limit: Duration, outside: &dyn Outside) -> Result<Vec<u8>, Answer> {
    let deadline = outside.elapsed() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        let problem = match attempt(url, deadline, outside) {
            Try::Body(body) => return Ok(body),
            Try::Over(answer) => return Err(answer),
            Try::Again(problem) => problem,
        };
        if deadline.saturating_sub(outside.elapsed()) <= pause {
            return Err(Answer::not_now(
                problem,
                "make the server reachable from this machine; it is tried again",
            ));
        }
        outside.pause(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn attempt(url: &str, deadline: Duration, outside: &dyn Outside) -> Try {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        let left = deadline.saturating_sub(outside.elapsed());
        if left.is_zero() {
            return Try::Again(format!("{} took too long", shown(&url)));
        }
        let mut request = Request::new("GET", url.clone());
        request.limit = REQUEST.min(left);
        request.most = MAXIMUM_FILE as usize;
        let response = match outside.send(&request) {
            Ok(response) => response,
            Err(error) => return failed(&url, &error),
        };
        match response.status {
            200 => return Try::Body(response.body),
            301 | 302 | 303 | 307 | 308 => match redirect(&url, &response) {
                Ok(next) => url = next,
                Err(problem) => {
                    let hint = "name the place itself in `s=`";
                    return Try::Over(Answer::unusable(problem, hint));
                }
            },
            408 | 425 | 429 | 500..=599 => {
                return Try::Again(format!("{} answers {}", shown(&url), response.status));
            }
            status => {
                return Try::Over(Answer::unusable(
                    format!("{} answers {status}", shown(&url)),
                    "serve the user data there, without asking who reads it",
                ));
            }
        }
    }
    Try::Over(Answer::unusable(
        format!("{} redirects more than {REDIRECTS} times", shown(&url)),
        "name the place itself in `s=`",
    ))
}

fn failed(url: &str, error: &NetworkError) -> Try {
    let problem = format!("{}: {error}", shown(url));
    match error {
        NetworkError::TooLarge { .. } => Try::Over(Answer::too_large(&shown(url))),
        NetworkError::Protocol { .. } => Try::Over(Answer::unusable(
            problem,
            "name an http or https server in `s=`",
        )),
        // A clock that is not set yet makes every certificate wrong.
        NetworkError::Tls { .. } => Try::Over(Answer::not_now(
            problem,
            "set the clock, or have the machine trust the server's authority",
        )),
        _ => Try::Again(problem),
    }
}

/// Where a redirect leads. From https never back to http: the answer would be
/// anybody's who stands between.
fn redirect(from: &str, response: &Response) -> Result<String, String> {
    let location = response.header("location").unwrap_or_default().trim();
    let target = if is_url(location) {
        location.to_owned()
    } else {
        let scheme_end = from.find("://").map_or(0, |at| at + 3);
        let path = from[scheme_end..]
            .find(['/', '?'])
            .map_or(from.len(), |at| scheme_end + at);
        if location.starts_with("//") {
            format!("{}{location}", &from[..scheme_end.saturating_sub(2)])
        } else if location.starts_with('/') {
            format!("{}{location}", &from[..path])
        } else {
            return Err(format!(
                "{} redirects to a place that cannot be followed: {}",
                shown(from),
                shown(location)
            ));
        }
    };
    let is_safe = |url: &str| {
        url.get(..8)
            .is_some_and(|it| it.eq_ignore_ascii_case("https://"))
    };
    if is_safe(from) && !is_safe(&target) {
        return Err(format!("{} redirects from https to http", shown(from)));
    }
    Ok(target)
}

#[cfg(test)]
mod tests;
