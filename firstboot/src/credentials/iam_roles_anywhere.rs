//! IAM Roles Anywhere: a certificate and its key on the machine.

use crate::node_config::model::{
    DEFAULT_AWS_CONFIG_PATH, DEFAULT_CERTIFICATE_PATH, DEFAULT_PRIVATE_KEY_PATH, IamRolesAnywhere,
};
use crate::system::{self, Files};

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
    },
    /// It works, but is not as it should be.
    Warning(String),
}

/// Looks at the certificate and the key on the machine. The key's content is
/// never read.
pub fn inspect_files(
    settings: &Settings<'_>,
    files: &dyn Files,
) -> Result<Vec<Finding>, system::Error> {
    let mut findings = Vec::new();
    let certificate = settings.certificate_path;
    match files.read(certificate, CERTIFICATE_LIMIT)? {
        None => findings.push(Finding::Fatal {
            problem: format!("the node's certificate {certificate} does not exist"),
            hint: "let the seed write it (cloud-init's write_files), or give spec.hybrid.iamRolesAnywhere.certificatePath".into(),
        }),
        Some(bytes) if !holds(&bytes, b"-----BEGIN CERTIFICATE-----") => findings.push(Finding::Fatal {
            problem: format!("{certificate} holds no certificate in PEM"),
            hint: "write the node's own certificate there, in PEM".into(),
        }),
        Some(_) => {}
    }
    let key = settings.private_key_path;
    match files.status(key)? {
        None => findings.push(Finding::Fatal {
            problem: format!("the node's private key {key} does not exist"),
            hint: "let the seed write it (cloud-init's write_files), or give spec.hybrid.iamRolesAnywhere.privateKeyPath".into(),
        }),
        Some(status) if status.mode & 0o077 != 0 => findings.push(Finding::Warning(format!(
            "the node's private key {key} can be read by others (mode {:04o}); 0600 is enough",
            status.mode
        ))),
        Some(_) => {}
    }
    Ok(findings)
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
