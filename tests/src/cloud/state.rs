//! The world while it runs: what it held at first, what was given out since, and what
//! was asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::PublicKeyData as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::canonical::{hex, sha256};
use super::fault::{self, Fault, Kind};
use super::identity::Key;
use super::refusal::Refusal;
use super::{Service, World};

/// A machine that registered with Systems Manager.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `mi-…`.
    pub id: String,
    /// Name of its role.
    pub role: String,
    /// Identifier of the activation that it used.
    pub activation: String,
    /// Its public key, DER.
    pub key: Vec<u8>,
    /// What identifies its hardware.
    pub fingerprint: String,
}

/// Who asked for a password of registries, and until when it is good, in seconds since
/// 1970.
#[derive(Debug, Clone)]
pub struct Password {
    /// The key that asked.
    pub key: Key,
    /// When it ends.
    pub end: i64,
}

/// A request as the record keeps it: without anything secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who was asked.
    pub service: Service,
    /// How.
    pub method: String,
    /// For what.
    pub path: String,
    /// Action of services that name it elsewhere than in the path.
    pub action: Option<String>,
    /// The status that was answered; 0 where nothing whole was.
    pub status: u16,
    /// The code of the refusal, if it was one.
    pub code: Option<String>,
}

/// Things that change.
#[derive(Debug)]
pub struct Inner {
    /// What the world holds.
    pub world: World,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Machines of Systems Manager.
    pub machines: Vec<Machine>,
    /// Tokens of the metadata service, and when they end.
    pub tokens: HashMap<String, i64>,
    /// Passwords of registries.
    pub passwords: HashMap<String, Password>,
    /// What was asked.
    pub record: Vec<Record>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct State {
    inner: Mutex<Inner>,
    /// URL of each service.
    pub endpoints: HashMap<Service, String>,
    /// The authority of this program's own certificates, PEM.
    pub authority: String,
}

impl State {
    /// A world that begins.
    pub fn new(world: World, endpoints: HashMap<Service, String>, authority: String) -> Self {
        let faults = world.faults.clone();
        let inner = Inner {
            world,
            faults,
            machines: Vec::new(),
            tokens: HashMap::new(),
            passwords: HashMap::new(),
            record: Vec::new(),
        };
        Self {
            inner: Mutex::new(inner),
            endpoints,
            authority,
        }
    }

    /// What changes. One who panicked while it was held has failed a request, no more.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world's clock, in seconds since 1970.
    pub fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let here = since.map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
        here.saturating_add(self.lock().world.clock_ahead)
    }

    /// The fault that a request meets.
    pub fn fault(&self, service: Service, path: &str) -> Option<Kind> {
        fault::take(&mut self.lock().faults, service, path)
    }

    /// Refuses who may not.
    pub fn permit(&self, key: &Key, action: &str, resource: &str) -> Result<(), Refusal> {
        if self
            .lock()
            .world
            .forbidden
            .iter()
            .any(|name| name == action)
        {
            return Err(Refusal::Forbidden {
                principal: key.principal.clone(),
                action: action.into(),
                resource: resource.into(),
            });
        }
        Ok(())
    }

    /// Temporary credentials for a session of a role, kept for later requests.
    pub fn give(&self, role: &str, session: &str, seconds: i64) -> Key {
        let expires = self.now() + seconds;
        let mut inner = self.lock();
        let account = inner.world.account.clone();
        let number = random();
        let key = Key {
            access_key_id: format!("ASIA{}", number[..16].to_uppercase()),
            secret_access_key: random()[..40].to_owned(),
            session_token: Some(format!("token/{}+{}==", &number[16..], random())),
            principal: format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
            user_id: format!(
                "AROA{}:{session}",
                sha256(role.as_bytes())[..16].to_uppercase()
            ),
            expires: Some(expires),
        };
        inner.world.keys.push(key.clone());
        key
    }
}

/// 64 hexadecimal digits that nobody can guess: a digest of a fresh public key.
///
/// # Panics
/// When the system gives no random numbers.
pub fn random() -> String {
    let key = rcgen::KeyPair::generate().expect("random numbers");
    sha256(hex(key.der_bytes()).as_bytes())
}

/// A time as `2026-01-31T12:00:00Z`.
pub fn iso(seconds: i64) -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    moment(seconds).format(format).unwrap_or_default()
}

/// A time as `20260131T120000Z`.
pub fn basic(seconds: i64) -> String {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    moment(seconds).format(format).unwrap_or_default()
}

/// A time as HTTP writes it.
pub fn http_date(seconds: i64) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    moment(seconds).format(format).unwrap_or_default()
}

/// Reads `20260131T120000Z`.
pub fn parse_basic(text: &str) -> Option<i64> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = time::PrimitiveDateTime::parse(text, format).ok()?;
    Some(date.assume_utc().unix_timestamp())
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
