//! AWS, asked with the node's own credentials.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::aws::credentials::{self, Credentials, CredentialsError, Process, SharedFile, Source};
use crate::aws::{AwsError, Budget, Client};
use crate::credentials::{Provider, provider, ssm};
use crate::node_config::NodeConfig;
use crate::system::{System, Variables};
use crate::validation::{Cloud, CloudError};

/// How long one question is tried: several of them have to fit into the time of the
/// checks, and whoever asks may ask again.
pub(super) const BUDGET: Budget = Budget::SERVICE.within(Duration::from_secs(15));

/// The profile that nodeadm and the SSM agent write.
const PROFILE: &str = "default";

/// AWS in the cluster's region.
pub(super) struct Aws<'a> {
    system: &'a dyn System,
    config: &'a NodeConfig,
    variables: &'a Variables,
    /// The AWS configuration that will be written; none once it is.
    settings: Option<&'a [u8]>,
    /// How they were looked for the last time. For that a program may have to run: of
    /// several that ask at once one looks, and the others wait for what it finds.
    credentials: Mutex<Option<Looked>>,
}

struct Looked {
    outcome: Result<Credentials, CredentialsError>,
    ended: Duration,
}

impl<'a> Aws<'a> {
    pub fn new(system: &'a dyn System, config: &'a NodeConfig, variables: &'a Variables) -> Self {
        Self {
            system,
            config,
            variables,
            settings: None,
            credentials: Mutex::default(),
        }
    }

    /// The same before the AWS configuration is written.
    pub fn with_settings(mut self, settings: Option<&'a [u8]>) -> Self {
        self.settings = settings;
        self
    }

    /// Asks something in the cluster's region.
    pub fn ask<T>(
        &self,
        question: impl FnOnce(&Client<'_>) -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        self.ask_in(&self.config.spec.cluster.region, question)
    }

    /// Asks something in a region.
    pub fn ask_in<T>(
        &self,
        region: &str,
        question: impl FnOnce(&Client<'_>) -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let credentials = self.credentials()?;
        question(&Client {
            network: self.system,
            clock: self.system,
            variables: self.variables,
            region,
            credentials: &credentials,
            budget: BUDGET,
        })
    }

    /// Those that were found; looks for them if they were not, unless somebody looked in
    /// vain while this one waited.
    fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let asked = self.system.elapsed();
        let mut last = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(looked) = &*last
            && (looked.outcome.is_ok() || looked.ended > asked)
        {
            return looked.outcome.clone();
        }
        let outcome = self.find();
        let ended = self.system.elapsed();
        last.insert(Looked { outcome, ended }).outcome.clone()
    }

    /// The credentials of the provider that the NodeConfig chose, and no others: the
    /// node is not to act as somebody else.
    fn find(&self) -> Result<Credentials, CredentialsError> {
        let source: Box<dyn Source> = match provider(self.config) {
            Ok(Provider::IamRolesAnywhere(settings)) => Box::new(Process {
                files: self.system,
                programs: self.system,
                path: settings.aws_config_path.to_owned(),
                settings: self.settings,
                profile: PROFILE.to_owned(),
                variables: self
                    .variables
                    .proxies()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            }),
            _ => Box::new(SharedFile {
                files: self.system,
                path: ssm::credentials(self.variables).to_owned(),
                profile: PROFILE.to_owned(),
            }),
        };
        credentials::find(&[source.as_ref()], self.system.now())
    }
}

impl Cloud for Aws<'_> {
    fn caller(&self) -> Result<String, CloudError> {
        let caller = self
            .ask(|client| client.caller())
            .map_err(|error| told(&error))?;
        Ok(caller.arn)
    }

    fn access_entries(&self) -> Result<Vec<String>, CloudError> {
        let cluster = &self.config.spec.cluster.name;
        self.ask(|client| client.list_access_entries(cluster))
            .map_err(|error| told(&error))
    }
}

fn told(error: &AwsError) -> CloudError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    match error {
        AwsError::Network { .. } => CloudError::Unreachable(text),
        other if other.is_transient() => CloudError::Unreachable(text),
        AwsError::Credentials(_) => CloudError::Credentials(text),
        other if other.is_denied() => CloudError::Forbidden(text),
        AwsError::Refused { .. } => CloudError::Credentials(text),
        AwsError::Answer { .. } | AwsError::Unusable { .. } => CloudError::Other(text),
    }
}
