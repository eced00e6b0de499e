//! What AWS's signing helper says when IAM Roles Anywhere gives it no session.
//!
//! The helper (`aws/rolesanywhere-credential-helper`) ends with 1 whatever went
//! wrong, so only its words tell a refusal from a network that is down. Up to 1.4, with
//! the SDK's first version, it says `AccessDeniedException: …`, and adds `status code:
//! 429, request id: …` to errors that are not the service's own. Later ones say
//! `operation error RolesAnywhere: CreateSession, https response error StatusCode: 403,
//! RequestID: …, AccessDeniedException: …`. Where nobody answered there is no name, and
//! no status or 0.

use super::super::error::is_transient;

/// What stands before the status of an answer.
const STATUS: [&str; 2] = ["StatusCode: ", "status code: "];

/// What follows the name of an error.
const NAME: &str = "Exception: ";

/// Longest reason that is repeated, in characters.
const LONGEST: usize = 300;

/// IAM Roles Anywhere, or a service after it, says no.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionRefusal {
    /// The status of its answer.
    status: u16,
    /// Name and message of the error, on one line.
    pub reason: String,
}

impl SessionRefusal {
    /// A refusal in what a program said.
    pub fn find(said: &str) -> Option<Self> {
        let told = STATUS.iter().find_map(|words| {
            let (_, rest) = said.rsplit_once(words)?;
            let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        let status = match told {
            Some(status @ 400..600) => status,
            // Each of the service's own errors is one.
            None if said.contains(NAME) => 400,
            _ => return None,
        };
        Some(Self {
            status,
            reason: reason(said),
        })
    }

    /// Whether it may be another one later: the service is busy, or the clock of this
    /// machine is yet to be set.
    pub fn is_transient(&self) -> bool {
        let code = self.reason.split(':').next().unwrap_or_default();
        self.is_about_time() || is_transient(code, self.status)
    }

    /// Its words for a signature that is too old or too new.
    fn is_about_time(&self) -> bool {
        ["Signature expired", "Signature not yet"]
            .iter()
            .any(|words| self.reason.contains(words))
    }

    /// What can be done about it.
    pub fn hint(&self) -> &'static str {
        let says = |words: &str| self.reason.contains(words);
        if self.is_about_time() {
            "set the clock (chrony, systemd-timesyncd)"
        } else if self.is_transient() {
            "IAM Roles Anywhere is down or busy just now, or a proxy on the way to it"
        } else if says("ertificate") {
            "the node's certificate has to be valid, for client authentication, and of the \
             authority that is the trust anchor of spec.hybrid.iamRolesAnywhere"
        } else if says("ignature") {
            "the private key has to be that of the node's certificate; check the clock"
        } else if says("ResourceNotFound") || says("Validation") {
            "check trustAnchorArn, profileArn and roleArn of spec.hybrid.iamRolesAnywhere, and \
             the region"
        } else {
            "the trust anchor and the profile have to be on, the profile has to hold the role and \
             accept a session name, and the role has to trust rolesanywhere.amazonaws.com"
        }
    }
}

/// The reason among what a program said: name and message of an error of AWS, or else
/// all of it. What it printed for others may hold keys and is not asked.
pub(super) fn reason(said: &str) -> String {
    let named = said.lines().rev().find_map(|line| {
        let (before, _) = line.split_once(NAME)?;
        let name = before
            .rsplit(|it: char| !it.is_ascii_alphanumeric())
            .next()?;
        Some(line[before.len() - name.len()..].trim())
    });
    let told = named.map_or_else(|| told(said), ToOwned::to_owned);
    let kept = told.chars().filter(|it| !it.is_control());
    match kept.take(LONGEST).collect::<String>() {
        nothing if nothing.is_empty() => "it failed".into(),
        reason => reason,
    }
}

/// What a program, and one that it ran, said of an error on their lines: without dates,
/// and without the queries of URLs.
pub fn told(said: &str) -> String {
    let mut told = String::new();
    for line in said.lines() {
        let is_dated = line.get(4..5) == Some("/") && line.get(7..8) == Some("/");
        let line = if is_dated { line.get(20..) } else { Some(line) };
        let line = line
            .unwrap_or_default()
            .trim_matches([' ', '\t', '\r', ':']);
        if line.is_empty() {
            continue;
        }
        if !told.is_empty() {
            told.push_str("; ");
        }
        let (before, query) = line.split_once('?').unwrap_or((line, ""));
        told.push_str(before);
        if let Some(end) = query.find(['"', ' ']) {
            told.push_str(&query[end..]);
        }
    }
    // Of a failed request the end says why.
    let surplus = told.chars().count().saturating_sub(LONGEST);
    told.chars().skip(surplus).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As today's helper writes it.
    fn said(status: u16, error: &str) -> String {
        format!(
            "2026/11/29 20:00:00 operation error RolesAnywhere: CreateSession, https response \
             error StatusCode: {status}, RequestID: 1b2c, {error}\n"
        )
    }

    #[test]
    fn a_refusal_is_told_from_what_passes() {
        for (status, error, passes, hint) in [
            (
                403,
                "AccessDeniedException: Untrusted certificate. Insufficient certificate",
                false,
                "trust anchor",
            ),
            (
                403,
                "AccessDeniedException: Untrusted certificate. Certificate is expired",
                false,
                "valid",
            ),
            (
                403,
                "AccessDeniedException: Invalid signature",
                false,
                "private key",
            ),
            (
                403,
                "AccessDeniedException: Unable to assume role for arn:aws:iam::1:role/node",
                false,
                "the role has to trust",
            ),
            (
                404,
                "ResourceNotFoundException: Trust anchor not found",
                false,
                "trustAnchorArn",
            ),
            (
                400,
                "ValidationException: Invalid profile ARN",
                false,
                "profileArn",
            ),
            (
                403,
                "InvalidSignatureException: Signature expired: 20261129T200000Z is now earlier",
                true,
                "set the clock",
            ),
            (429, "ThrottlingException: Rate exceeded", true, "just now"),
            (400, "ThrottlingException: Rate exceeded", true, "just now"),
            (500, "InternalFailureException: no", true, "just now"),
        ] {
            let refusal = SessionRefusal::find(&said(status, error)).unwrap();
            assert_eq!(refusal.reason, error);
            assert_eq!(refusal.is_transient(), passes, "{error}");
            assert!(refusal.hint().contains(hint), "{error}: {}", refusal.hint());
        }
    }

    #[test]
    fn helpers_of_the_sdks_first_version_keep_the_status_of_what_they_know() {
        for (said, reason, passes) in [
            (
                "2026/11/29 21:17:27 AccessDeniedException: Untrusted certificate. Insufficient \
                 certificate\n",
                "AccessDeniedException: Untrusted certificate. Insufficient certificate",
                false,
            ),
            (
                "2026/11/29 21:17:28 ResourceNotFoundException: Trust anchor not found\n",
                "ResourceNotFoundException: Trust anchor not found",
                false,
            ),
            (
                "2026/11/29 21:17:38 ThrottlingException: Rate exceeded\n\tstatus code: 429, \
                 request id: 1b2c\n",
                "ThrottlingException: Rate exceeded",
                true,
            ),
            (
                "2026/11/29 21:17:41 InvalidSignatureException: no\n\tstatus code: 403, request \
                 id: \n",
                "InvalidSignatureException: no",
                false,
            ),
        ] {
            let refusal = SessionRefusal::find(said).unwrap();
            assert_eq!(refusal.reason, reason);
            assert_eq!(refusal.is_transient(), passes, "{said}");
        }
    }

    #[test]
    fn a_service_that_is_down_is_not_taken_for_a_profile_that_is_off() {
        let said = "2026/11/30 00:45:41 : \n\tstatus code: 503, request id: 1\n";
        let refusal = SessionRefusal::find(said).unwrap();
        assert!(refusal.is_transient());
        assert_eq!(refusal.reason, "status code: 503, request id: 1");
        assert!(
            refusal.hint().contains("down or busy"),
            "{}",
            refusal.hint()
        );
    }

    #[test]
    fn where_nobody_answered_nothing_was_refused() {
        for said in [
            "",
            "exit status 1",
            "2026/11/29 21:07:33 RequestError: send request failed\ncaused by: Post \
             \"https://127.0.0.1:9/sessions\": dial tcp 127.0.0.1:9: connect: connection refused",
            "2026/11/29 21:07:33 unable to parse private key",
            "StatusCode: ",
            "StatusCode: 99999",
            "StatusCode: 200, fine",
            "operation error RolesAnywhere: CreateSession, exceeded maximum number of attempts, 3, \
             https response error StatusCode: 0, RequestID: , request send failed, Post \
             \"https://rolesanywhere.us-west-2.amazonaws.com/sessions\": dial tcp: lookup \
             rolesanywhere.us-west-2.amazonaws.com: no such host",
        ] {
            assert_eq!(SessionRefusal::find(said), None, "{said}");
        }
        assert_eq!(
            reason("log line\nno such host\n\n"),
            "log line; no such host"
        );
        assert_eq!(reason(""), "it failed");
        let long = format!("Post \"{}\": connection refused", "x".repeat(400));
        assert!(reason(&long).ends_with("xx\": connection refused"));
        assert_eq!(reason("a …Exception: b"), "Exception: b");
    }

    #[test]
    fn what_programs_say_on_several_lines_is_told_whole() {
        for (said, expected) in [
            ("", ""),
            (
                "2026/11/30 00:45:35 RequestError: send request failed\ncaused by: Post \
                 \"https://a.example/sessions?profileArn=b&c=d\": EOF\ncould not get token: no\n",
                "RequestError: send request failed; caused by: Post \
                 \"https://a.example/sessions\": EOF; could not get token: no",
            ),
            (
                "2026/11/30 00:45:41 : \n\tstatus code: 503, request id: 1\n",
                "status code: 503, request id: 1",
            ),
            ("why?", "why"),
        ] {
            assert_eq!(told(said), expected);
        }
    }
}
