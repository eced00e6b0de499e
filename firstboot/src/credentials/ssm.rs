//! AWS Systems Manager: the agent of a registered machine keeps credentials fresh.
//!
//! What the agent takes and where it keeps things is in `aws/amazon-ssm-agent`
//! (`core/agent_parser.go`, `agent/appconfig/constants_unix.go`): the activation's
//! code only as an argument, neither from its environment nor from a file or its
//! input; `ssm-setup-cli` hands it on in the same way.

use std::time::Duration;

use serde::Deserialize;

use crate::node_config::model::Ssm;
use crate::system::{self, Files, Task, Variables};

/// Folder in which the agent keeps all that it knows. The snap is of the classic
/// kind and uses the same.
pub const FOLDER: &str = "/var/lib/amazon/ssm";

/// What the agent notes in plain text when it has registered the machine.
pub const REGISTRATION: &str = "/var/lib/amazon/ssm/registration";

/// The agent's own copy, with the key that belongs to the registration.
pub const REGISTRATION_KEY: &str = "/var/lib/amazon/ssm/Vault/Store/RegistrationKey";

/// Where the agent puts credentials unless `AWS_SHARED_CREDENTIALS_FILE` says
/// otherwise.
pub const CREDENTIALS: &str = "/root/.aws/credentials";

/// Where the agent puts credentials.
pub fn credentials(variables: &Variables) -> &str {
    let given = variables.get("AWS_SHARED_CREDENTIALS_FILE");
    given.unwrap_or(CREDENTIALS)
}

/// Largest registration that is read, in bytes.
const REGISTRATION_LIMIT: usize = 64 << 10;

/// Time for the agent to make a key and speak to SSM once.
const REGISTER_LIMIT: Duration = Duration::from_secs(120);

/// An installed agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agent {
    /// Path of its program.
    pub program: &'static str,
    /// Its unit.
    pub unit: &'static str,
}

/// The ways in which the agent comes: deb and rpm, and snap. Which one it is
/// follows from the program that is there, not from the distribution: Ubuntu has
/// both.
pub const AGENTS: [Agent; 2] = [
    Agent {
        program: "/usr/bin/amazon-ssm-agent",
        unit: "amazon-ssm-agent.service",
    },
    Agent {
        program: "/snap/amazon-ssm-agent/current/amazon-ssm-agent",
        unit: "snap.amazon-ssm-agent.amazon-ssm-agent.service",
    },
];

/// The agent that is installed.
pub fn agent(files: &dyn Files) -> Option<Agent> {
    AGENTS
        .into_iter()
        .find(|agent| files.resolve(agent.program).is_some())
}

/// What the agent notes about the machine's registration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Registration {
    /// `mi-…`.
    #[serde(rename = "ManagedInstanceID")]
    pub managed_instance_id: String,
    /// The region in which it is registered.
    #[serde(rename = "Region", default)]
    pub region: String,
}

/// The machine's registration; `None` when there is none, or half a one: the agent
/// does not write the file at once.
pub fn registration(files: &dyn Files) -> Result<Option<Registration>, system::Error> {
    let bytes = match files.read(REGISTRATION, REGISTRATION_LIMIT) {
        Err(system::Error::TooLarge { .. }) => None,
        bytes => bytes?,
    };
    let registration: Option<Registration> =
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(registration.filter(|found| is_managed_instance_id(&found.managed_instance_id)))
}

/// `mi-` and hexadecimal digits: it becomes the node's name, so nothing else may
/// stand in it.
fn is_managed_instance_id(text: &str) -> bool {
    text.strip_prefix("mi-").is_some_and(|digits| {
        (8..=40).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Has the agent register the machine. The code is on the agent's command line, for
/// it takes it nowhere else: visible to everybody on the machine for the seconds
/// that it runs, before any pod does.
pub fn register(agent: Agent, region: &str, activation: &Ssm, variables: &Variables) -> Task {
    let task = Task::new(
        agent.program,
        &["-register", "-y", "-region", region, "-id"],
        REGISTER_LIMIT,
    )
    .and(&[&activation.activation_id, "-code"])
    .and_secret(&activation.activation_code);
    variables
        .proxies()
        .fold(task, |task, (name, value)| task.with_variable(name, value))
}

/// Why SSM does not register a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The activation's time is over, or all machines that it is for have joined.
    Expired,
    /// There is no such activation in this region, or its code is another.
    Invalid,
}

impl Refusal {
    /// The refusal in what the agent said; the names are those of SSM's API
    /// (`RegisterManagedInstance`).
    pub fn find(said: &str) -> Option<Self> {
        if said.contains("ActivationExpired") {
            Some(Self::Expired)
        } else if said.contains("InvalidActivation") {
            Some(Self::Invalid)
        } else {
            None
        }
    }

    /// What is wrong.
    pub fn problem(self) -> &'static str {
        match self {
            Self::Expired => "the SSM activation has expired, or is used up",
            Self::Invalid => "SSM does not know this activation",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Expired => {
                "make a new activation (`aws ssm create-activation`) with time and room for \
                 this machine, and give its code and id"
            }
            Self::Invalid => {
                "spec.hybrid.ssm.activationId, activationCode and spec.cluster.region have to \
                 be of one activation"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::ACTIVATION_CODE;
    use crate::system::pretended::Pretended;

    #[test]
    fn the_agent_is_known_by_its_program() {
        let machine = Pretended::default();
        assert_eq!(agent(&machine), None);
        machine.put(AGENTS[1].program, b"program", 0o755);
        assert_eq!(agent(&machine), Some(AGENTS[1]));
        machine.put(AGENTS[0].program, b"program", 0o755);
        assert_eq!(agent(&machine), Some(AGENTS[0]));
    }

    #[test]
    fn only_a_whole_registration_counts() {
        let machine = Pretended::default();
        assert_eq!(registration(&machine).unwrap(), None);
        let whole = r#"{"ManagedInstanceID":"mi-0123456789abcdef0","Region":"eu-west-1"}"#;
        for text in [
            "",
            "{",
            "{}",
            r#"{"ManagedInstanceID":""}"#,
            r#"{"ManagedInstanceID":"i-0123456789abcdef0"}"#,
            r#"{"ManagedInstanceID":"mi-0123456789abcdef0 --x"}"#,
            &whole[..40],
            &format!("{whole}{}", " ".repeat(REGISTRATION_LIMIT)),
        ] {
            machine.put(REGISTRATION, text.as_bytes(), 0o600);
            assert_eq!(registration(&machine).unwrap(), None, "{text:.80}");
        }
        machine.put(REGISTRATION, whole.as_bytes(), 0o600);
        let found = registration(&machine).unwrap().unwrap();
        assert_eq!(found.managed_instance_id, "mi-0123456789abcdef0");
        assert_eq!(found.region, "eu-west-1");
    }

    #[test]
    fn the_code_is_given_to_the_agent_and_shown_to_nobody() {
        let activation = Ssm {
            activation_code: ACTIVATION_CODE.into(),
            activation_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
        };
        let task = register(
            AGENTS[0],
            "eu-west-1",
            &activation,
            &Variables::default()
                .with("HTTPS_PROXY", "http://proxy:1")
                .with("CPU_DIR", "/x"),
        );
        assert_eq!(
            task.line(),
            "/usr/bin/amazon-ssm-agent -register -y -region eu-west-1 \
             -id 01234567-89ab-cdef-0123-456789abcdef -code (hidden)"
        );
        assert!(!format!("{task:?}").contains(ACTIVATION_CODE));
        assert_eq!(
            task.variables,
            [("HTTPS_PROXY".to_owned(), "http://proxy:1".to_owned())]
        );
    }

    #[test]
    fn the_two_refusals_are_told_apart() {
        let said = "ERROR Registration failed due to error registering the instance with AWS SSM. ";
        for (name, refusal) in [
            (
                "ActivationExpired: status code: 400",
                Some(Refusal::Expired),
            ),
            (
                "InvalidActivation: status code: 400",
                Some(Refusal::Invalid),
            ),
            ("RequestError: send request failed", None),
        ] {
            assert_eq!(Refusal::find(&format!("{said}{name}")), refusal);
        }
    }
}
