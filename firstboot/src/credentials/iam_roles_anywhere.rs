//! IAM Roles Anywhere: a certificate and its key on the machine.

use std::time::{Duration, UNIX_EPOCH};

use crate::node_config::model::{
    DEFAULT_AWS_CONFIG_PATH, DEFAULT_CERTIFICATE_PATH, DEFAULT_PRIVATE_KEY_PATH, IamRolesAnywhere,
};
use crate::node_config::{CertificateError, check_node_certificate};
use crate::system::{self, Files, System, Task, rfc3339};

/// Largest certificate file that is read, in bytes.
const CERTIFICATE_LIMIT: usize = 1 << 20;

/// The settings with every default filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings<'a> {
    /// Name of the node and of its role session.
    pub node_name: &'a str,
    /// ARN of the trust anchor.
    pub trust_anchor_arn: &'a str,
    /// ARN of the profile.
    pub profile_arn: &'a str,
    /// ARN of the role.
    pub role_arn: &'a str,
    /// Where the AWS configuration is written.
    pub aws_config_path: &'a str,
    /// The node's certificate.
    pub certificate_path: &'a str,
    /// The node's private key.
    pub private_key_path: &'a str,
}

impl<'a> Settings<'a> {
    /// The settings of a NodeConfig, with nodeadm's default paths.
    pub fn new(given: &'a IamRolesAnywhere) -> Self {
        fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
            if value.is_empty() { default } else { value }
        }
        Self {
            node_name: &given.node_name,
            trust_anchor_arn: &given.trust_anchor_arn,
            profile_arn: &given.profile_arn,
            role_arn: &given.role_arn,
            aws_config_path: or(&given.aws_config_path, DEFAULT_AWS_CONFIG_PATH),
            certificate_path: or(&given.certificate_path, DEFAULT_CERTIFICATE_PATH),
            private_key_path: or(&given.private_key_path, DEFAULT_PRIVATE_KEY_PATH),
        }
    }

    /// Path in the NodeConfig and value of each.
    pub fn fields(&self) -> [(&'static str, &'a str); 7] {
        [
            ("spec.hybrid.iamRolesAnywhere.nodeName", self.node_name),
            (
                "spec.hybrid.iamRolesAnywhere.trustAnchorArn",
                self.trust_anchor_arn,
            ),
            ("spec.hybrid.iamRolesAnywhere.profileArn", self.profile_arn),
            ("spec.hybrid.iamRolesAnywhere.roleArn", self.role_arn),
            (
                "spec.hybrid.iamRolesAnywhere.awsConfigPath",
                self.aws_config_path,
            ),
            (
                "spec.hybrid.iamRolesAnywhere.certificatePath",
                self.certificate_path,
            ),
            (
                "spec.hybrid.iamRolesAnywhere.privateKeyPath",
                self.private_key_path,
            ),
        ]
    }
}

/// Something about the certificate or key that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The node cannot get credentials like this.
    Fatal {
        /// What is wrong; never holds content of a file.
        problem: String,
        /// What to do about it.
        hint: String,
        /// Whether it may mend itself, as a clock does that is not yet set.
        may_pass: bool,
    },
    /// It works, but is not as it should be.
    Warning(String),
}

/// Looks at the certificate and the key on the machine. The key's content is
/// never read.
pub fn inspect_files(
    settings: &Settings<'_>,
    system: &dyn System,
) -> Result<Vec<Finding>, system::Error> {
    let mut findings = Vec::new();
    findings.extend(inspect_certificate(settings.certificate_path, system)?);
    findings.extend(inspect_key(settings.private_key_path, system)?);
    Ok(findings)
}

fn inspect_certificate(path: &str, system: &dyn System) -> Result<Option<Finding>, system::Error> {
    let fatal = |problem: String, hint: &str, may_pass| {
        Ok(Some(Finding::Fatal {
            problem,
            hint: hint.into(),
            may_pass,
        }))
    };
    let Some(bytes) = system.read(path, CERTIFICATE_LIMIT)? else {
        return fatal(
            format!("the node's certificate {path} does not exist"),
            "let the seed write it (cloud-init's write_files), or give \
             spec.hybrid.iamRolesAnywhere.certificatePath",
            false,
        );
    };
    let now = system.now();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match check_node_certificate(&bytes, i64::try_from(seconds).unwrap_or(i64::MAX)) {
        Ok(_) => Ok(None),
        Err(error @ CertificateError::NotYetValid) => fatal(
            format!("the node's certificate {path} cannot be used: {error}"),
            "set the machine's clock, or let a time service set it",
            true,
        ),
        Err(error @ CertificateError::Expired) if !clock_is_set(system) => fatal(
            format!(
                "the node's certificate {path} cannot be used: {error}, or the clock is wrong: no \
                 time service has set it, and it says {}",
                rfc3339(now)
            ),
            "let a time service set the clock (`timedatectl status` shows it); if it is right, \
             write a valid certificate there",
            true,
        ),
        Err(error) => fatal(
            format!("the node's certificate {path} cannot be used: {error}"),
            "write the node's own, valid certificate there, in PEM",
            false,
        ),
    }
}

/// Whether the clock can be relied on: the kernel knows if a time service keeps it
/// right. One that nobody set may be wrong by years, as with a dead battery.
fn clock_is_set(system: &dyn System) -> bool {
    const LIMIT: Duration = Duration::from_secs(10);
    let question = ["show", "--property=NTPSynchronized", "--value"];
    let answer = system.run(&Task::new("timedatectl", &question, LIMIT));
    answer.is_ok_and(|ended| ended.success && ended.output.trim() == "yes")
}

fn inspect_key(path: &str, files: &dyn Files) -> Result<Option<Finding>, system::Error> {
    Ok(match files.status(path)? {
        None => Some(Finding::Fatal {
            problem: format!("the node's private key {path} does not exist"),
            hint: "let the seed write it (cloud-init's write_files), or give \
                   spec.hybrid.iamRolesAnywhere.privateKeyPath"
                .into(),
            may_pass: false,
        }),
        Some(status) if status.is_file && status.mode & 0o077 != 0 => {
            Some(Finding::Warning(format!(
                "the node's private key {path} can be read by others (mode {:04o}); 0600 is enough",
                status.mode
            )))
        }
        Some(_) => None,
    })
}
