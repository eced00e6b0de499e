//! The environment variables that this program looks at: all of them stand here.

use std::collections::BTreeMap;
use std::fmt;

/// Environment variables that change what is found, and how the network is used.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Names of all that are looked at.
    pub const NAMES: [&'static str; 34] = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "CPU_DIR",
        "NODE_DIR",
        "ECR_CREDENTIAL_PROVIDER_BIN_PATH",
        "ACTIVE_SWAP_AREAS",
        // Certificates that are trusted.
        "SSL_CERT_FILE",
        "AWS_CA_BUNDLE",
        // Where the services of AWS are, and which of their names are taken.
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_EC2",
        "AWS_ENDPOINT_URL_ECR",
        "AWS_ENDPOINT_URL_EKS",
        "AWS_ENDPOINT_URL_ROLESANYWHERE",
        "AWS_ENDPOINT_URL_SSM",
        "AWS_ENDPOINT_URL_STS",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_USE_FIPS_ENDPOINT",
        // The instance metadata service.
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        // Credentials, and where they are.
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    ];

    /// Takes what is set, and not empty.
    pub fn from_process() -> Self {
        Self(
            Self::NAMES
                .iter()
                .filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?)))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        )
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of the first of these that is set.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Whether a variable says yes: `true` in any case, as the SDKs of AWS read it.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The same variables and one more; an empty value takes it away. Names that are
    /// not looked at are left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            self.0.remove(name);
        } else if Self::NAMES.contains(&name) {
            self.0.insert(name.into(), value.into());
        }
        self
    }

    /// The variables that name proxies and exceptions from them.
    pub fn proxies(&self) -> impl Iterator<Item = (&str, &str)> {
        Self::NAMES[..6]
            .iter()
            .filter_map(|name| Some((*name, self.get(name)?)))
    }

    pub(super) fn proxied(&self) -> bool {
        self.first(&Self::NAMES[..4]).is_some()
    }
}

// By hand: proxies have passwords, and some of the variables are keys.
impl fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_never_shown_and_unknown_names_never_taken() {
        let variables = Variables::default()
            .with("AWS_SECRET_ACCESS_KEY", "s3cr3t")
            .with("LD_PRELOAD", "/x.so")
            .with("https_proxy", "http://me:s3cr3t@proxy:1");
        assert_eq!(variables.get("AWS_SECRET_ACCESS_KEY"), Some("s3cr3t"));
        assert_eq!(variables.get("LD_PRELOAD"), None);
        assert!(variables.proxied());
        assert!(!format!("{variables:?}").contains("s3cr3t"));
        assert!(!variables.with("https_proxy", "").proxied());
    }
}
