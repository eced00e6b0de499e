//! `proxy-validation`: where a proxy is set, it is set for all that need it.
//!
//! nodeadm also stops where the package manager has no proxy; a node installs
//! nothing, so that is a warning here. Values are never shown: they may hold a
//! password.

use super::{Finding, Subject};
use crate::credentials::Provider;
use crate::system;

/// The same variable in both spellings.
const VARIABLES: [[&str; 2]; 3] = [
    ["HTTP_PROXY", "http_proxy"],
    ["HTTPS_PROXY", "https_proxy"],
    ["NO_PROXY", "no_proxy"],
];

/// Where systemd looks for what is added to a unit.
const FOLDERS: [&str; 3] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
];

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let is_set = |names: &[&str; 2]| subject.variables.first(names).is_some();
    if !VARIABLES[..2].iter().any(is_set) {
        return Ok(Finding::skipped("no proxy is set"));
    }
    for [upper, lower] in VARIABLES {
        let both = subject
            .variables
            .get(upper)
            .zip(subject.variables.get(lower));
        if both.is_some_and(|(one, other)| one != other) {
            return Ok(Finding::failed(
                format!("{upper} and {lower} differ"),
                "programs read one or the other: give both the same value",
            ));
        }
    }
    for unit in units(subject) {
        let found = environment(subject, unit)?;
        for [upper, lower] in &VARIABLES[..2] {
            let wanted = subject.variables.first(&[upper, lower]);
            let assigned = |value: &str| {
                let names = [*upper, *lower];
                names
                    .iter()
                    .any(|name| found.contains(&format!("{name}={value}")))
            };
            if wanted.is_some_and(|value| !assigned(value)) {
                return Ok(Finding::failed(
                    format!("{unit} does not have the {upper} of this program"),
                    "set it for all services (spec.instance.environment, DefaultEnvironment= of \
                     systemd), or add a drop-in http-proxy.conf to the unit",
                ));
            }
        }
    }
    Ok(match package_manager(&subject.facts.os) {
        Some((path, key)) if !subject.text(path)?.unwrap_or_default().contains(key) => {
            Finding::warning(
                format!("{path} names no proxy"),
                "packages cannot be installed on the node; first boot does not need any",
            )
        }
        _ => Finding::ok("the proxy is set for all services"),
    })
}

/// Units that reach out.
fn units(subject: &Subject<'_>) -> Vec<&'static str> {
    let mut units = vec!["containerd.service", "kubelet.service"];
    if let Some(Provider::Ssm(_)) = subject.provider() {
        units.push(if subject.facts.os == "ubuntu" {
            "snap.amazon-ssm-agent.amazon-ssm-agent.service"
        } else {
            "amazon-ssm-agent.service"
        });
    }
    units
}

/// All that is configured for a unit, and for every unit.
fn environment(subject: &Subject<'_>, unit: &str) -> Result<String, system::Error> {
    let mut found = String::new();
    let below = |folder: &str| format!("{folder}/{unit}.d");
    let drop_ins = FOLDERS.iter().map(|folder| below(folder));
    let everywhere = [
        "/etc/systemd/system.conf.d",
        "/usr/lib/systemd/system.conf.d",
    ];
    for folder in drop_ins.chain(everywhere.map(str::to_owned)) {
        for name in subject.system.names(&folder)? {
            if name.ends_with(".conf") {
                let text = subject.text(&format!("{folder}/{name}"))?;
                found.push_str(&text.unwrap_or_default());
            }
        }
    }
    // systemd reads a doubled percent sign as one.
    let mut found = found.replace("%%", "%");
    if !subject.is_hybrid() {
        // What this program is about to write for the services of an instance.
        let given = &subject.config.spec.instance.environment;
        let of_unit = unit.trim_end_matches(".service");
        for (name, value) in ["default", of_unit]
            .iter()
            .filter_map(|it| given.get(*it))
            .flatten()
        {
            found.push_str(&format!("\n{name}={value}\n"));
        }
    }
    Ok(found)
}

/// Where the package manager of an OS has its proxy, and as what.
fn package_manager(os: &str) -> Option<(&'static str, &'static str)> {
    match os {
        "ubuntu" => Some(("/etc/apt/apt.conf.d/proxy.conf", "Acquire::http::Proxy")),
        "rhel" => Some(("/etc/yum.conf", "proxy=")),
        "amzn" => Some(("/etc/dnf/dnf.conf", "proxy=")),
        _ => None,
    }
}
