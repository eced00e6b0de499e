//! `limits-validation`: how many files and processes a service may have, as
//! nodeadm's `debug` asks: 1024 and 4096.

use super::{Finding, Subject};
use crate::system;

/// Lines of /proc/PID/limits (proc_pid_limits(5)), what the resource is called,
/// and the least.
const LIMITS: [(&str, &str, u64); 2] = [
    ("Max open files", "nofile", 1024),
    ("Max processes", "nproc", 4096),
];

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let Some(text) = subject.text("/proc/self/limits")? else {
        return Ok(Finding::could_not_run("/proc/self/limits is not there"));
    };
    let mut seen = Vec::new();
    for (line, name, least) in LIMITS {
        let soft = text
            .lines()
            .find_map(|it| it.strip_prefix(line))
            .and_then(|rest| match rest.split_whitespace().next()? {
                "unlimited" => Some(u64::MAX),
                number => number.parse().ok(),
            });
        let Some(soft) = soft else {
            return Ok(Finding::could_not_run(format!(
                "the limit {name} is not known"
            )));
        };
        if soft < least {
            return Ok(Finding::warning(
                format!("{name} is {soft}, less than {least}"),
                "raise DefaultLimitNOFILE= and DefaultLimitNPROC= in /etc/systemd/system.conf",
            ));
        }
        seen.push(if soft == u64::MAX {
            format!("{name} unlimited")
        } else {
            format!("{name} {soft}")
        });
    }
    Ok(Finding::ok(seen.join(", ")))
}
