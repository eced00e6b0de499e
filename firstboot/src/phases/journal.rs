//! What is kept on disk about the work, so that the next start goes on from there.
//!
//! The journal is replaced whole and at once. It says which phase was begun with
//! which inputs and which of them ended well; a phase whose inputs are the same as
//! when it ended well has nothing to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Error, Phase};
use crate::system::{self, Files, System, mounts_at_or_below, rfc3339};

/// Where the journal lies.
pub const PATH: &str = "/var/lib/nodekiln/firstboot/state.json";

/// What is kept of this program; a mount there is a disk that outlives the system.
const STATE: &str = "/var/lib/nodekiln";

/// What the image says of itself, its build key among it.
const RELEASE: &str = "/etc/nodekiln-release";

/// UUIDs that boards of many machines have, whose makers gave them none.
const UUIDS_OF_MANY: [&str; 2] = [
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
];

const LIMIT: usize = 1 << 20;
const VERSION: u32 = 1;

/// Which machine this is: digests, for a machine-id is not to be shown around
/// (machine-id, "the machine ID should be considered confidential").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Of /etc/machine-id.
    pub machine_id: Option<String>,
    /// Of the firmware's UUID.
    pub smbios_uuid: Option<String>,
}

impl Machine {
    /// Reads who this machine is. Where the journal has a disk of its own it outlives the
    /// system, whose machine-id then says nothing about it: only the firmware counts,
    /// unless what that says is nobody's own.
    pub fn read(files: &dyn Files) -> Self {
        let text = |path: &str| -> Option<String> {
            // The firmware's may be hidden, or not there: then the other one counts.
            let bytes = files.read(path, 4096).ok()??;
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let digest_of = |text: String| digest(["machine".as_bytes(), text.as_bytes()]);
        let uuid = text("/sys/class/dmi/id/product_uuid");
        let is_enough = uuid.as_deref().is_some_and(is_of_one_machine) && is_on_own_disk(files);
        let machine_id = text("/etc/machine-id").filter(|_| !is_enough);
        Self {
            machine_id: machine_id.map(digest_of),
            smbios_uuid: uuid.map(digest_of),
        }
    }

    /// Whether both are of one machine: nothing known of both differs.
    pub fn is(&self, other: &Self) -> bool {
        let same = |left: &Option<String>, right: &Option<String>| match (left, right) {
            (Some(left), Some(right)) => left == right,
            _ => true,
        };
        same(&self.machine_id, &other.machine_id) && same(&self.smbios_uuid, &other.smbios_uuid)
    }
}

/// Whether a UUID was given to one machine alone.
fn is_of_one_machine(uuid: &str) -> bool {
    let mut digits = uuid.bytes().filter(u8::is_ascii_alphanumeric);
    let first = digits.next();
    // All zeros, all ones: one that was never set.
    let is_blank = digits.all(|digit| Some(digit) == first);
    !is_blank && !UUIDS_OF_MANY.contains(&uuid.to_ascii_lowercase().as_str())
}

/// Whether what is kept of this program lies on a disk of its own.
fn is_on_own_disk(files: &dyn Files) -> bool {
    // What is mounted cannot be read only where nothing else can be, either.
    let mounts = mounts_at_or_below(files, STATE).unwrap_or_default();
    mounts.iter().any(|place| place == STATE)
}

/// Digest of what the image says of itself; none where it says nothing.
pub fn image(files: &dyn Files) -> Result<Option<String>, system::Error> {
    let release = files.read(RELEASE, LIMIT)?;
    Ok(release.map(|text| digest(["image".as_bytes(), &text])))
}

/// SHA-256 over parts, in hexadecimal; where one part ends matters.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

/// One phase as it went the last time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended well.
    pub finished: Option<String>,
    /// How long it took until it ended, well or not.
    pub milliseconds: Option<u64>,
    /// Digest of what it worked from.
    pub inputs: String,
    /// Why it did not end well.
    pub error: Option<String>,
    /// How often something in it was tried again since it began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// The last failure after which something was tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transient: Option<String>,
    /// What to do about `error`, or where there is none about `last_transient`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What is waited for just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Phases that this version knows: another version of this program may have noted
/// more of them, and that is no reason to start anew.
fn known_phases<'de, D: serde::Deserializer<'de>>(
    source: D,
) -> Result<BTreeMap<Phase, Record>, D::Error> {
    let all = BTreeMap::<String, Record>::deserialize(source)?;
    Ok(all
        .into_iter()
        .filter_map(|(name, record)| Some((Phase::named(&name)?, record)))
        .collect())
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// Of this format.
    pub version: u32,
    /// The machine whose identity was found to be in order; none before that.
    pub machine: Option<Machine>,
    /// Digest of what the image says of itself that the work was done in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Paths of all files that were written, or were about to be.
    pub files: Vec<String>,
    /// Phases by name.
    #[serde(deserialize_with = "known_phases")]
    pub phases: BTreeMap<Phase, Record>,
}

/// Whose journal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's yet.
    Nobody,
    /// This machine's.
    This,
    /// That of the machine whose disk was copied.
    Another,
}

/// What lies where the journal belongs.
#[derive(Debug)]
pub enum OnDisk {
    /// Nothing.
    Absent,
    /// Something that is no journal, or one of another version: somebody's work
    /// was done here, and it cannot be told whose.
    Unreadable,
    /// A journal.
    Journal(Journal),
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            version: VERSION,
            machine: None,
            image: None,
            files: Vec::new(),
            phases: BTreeMap::new(),
        }
    }
}

impl Journal {
    /// Reads the journal.
    pub fn read(files: &dyn Files) -> Result<OnDisk, system::Error> {
        let Some(bytes) = files.read(PATH, LIMIT)? else {
            return Ok(OnDisk::Absent);
        };
        let journal: Option<Self> = serde_json::from_slice(&bytes).ok();
        Ok(match journal.filter(|journal| journal.version == VERSION) {
            Some(journal) => OnDisk::Journal(journal),
            None => OnDisk::Unreadable,
        })
    }

    /// Writes it.
    pub fn save(&self, files: &dyn Files) -> Result<(), system::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .expect("a journal of text and numbers can always be written to memory");
        bytes.push(b'\n');
        // Paths and times are nobody's secret, but nobody else's business.
        files.write(PATH, &bytes, 0o600)
    }

    /// Whose journal it is.
    pub fn owner(&self, machine: &Machine) -> Owner {
        match &self.machine {
            None => Owner::Nobody,
            Some(owner) if owner.is(machine) => Owner::This,
            Some(_) => Owner::Another,
        }
    }

    /// Notes the image that the work is done in. In another one than before nothing of the
    /// work is done yet, though this machine stays who it is: then its phases are
    /// forgotten. Says whether that is so. Not yet on disk.
    pub fn enter(&mut self, image: Option<String>) -> bool {
        let is_another = self.image.is_some() && self.image != image;
        if is_another {
            self.phases.clear();
        }
        self.image = image;
        is_another
    }

    /// Whether a phase ended well with these inputs.
    pub fn is_done(&self, phase: Phase, inputs: &str) -> bool {
        self.phases
            .get(&phase)
            .is_some_and(|record| record.finished.is_some() && record.inputs == inputs)
    }

    /// Whether a phase ended well, with whatever inputs.
    pub fn ended(&self, phase: Phase) -> bool {
        let record = self.phases.get(&phase);
        record.is_some_and(|record| record.finished.is_some())
    }

    /// Whether the whole work was done once, with whatever inputs. The kubelet is
    /// the last of it in every version of this program.
    pub fn is_complete(&self) -> bool {
        self.phases.contains_key(&Phase::Kubelet)
            && self.phases.values().all(|record| record.finished.is_some())
    }

    /// Notes that a phase begins. Not yet on disk.
    pub fn begin(&mut self, system: &dyn System, phase: Phase, inputs: &str) {
        let record = Record {
            started: rfc3339(system.now()),
            finished: None,
            milliseconds: None,
            inputs: inputs.into(),
            error: None,
            retries: 0,
            last_transient: None,
            hint: None,
            waits_for: None,
        };
        self.phases.insert(phase, record);
    }

    /// Notes that a phase which had ended was taken up again. Not yet on disk.
    pub fn resume(&mut self, system: &dyn System, phase: Phase) {
        if let Some(record) = self.phases.get_mut(&phase) {
            record.started = rfc3339(system.now());
            record.finished = None;
            record.error = None;
        }
    }

    /// Notes how a phase ended. Not yet on disk.
    pub fn end(&mut self, system: &dyn System, phase: Phase, took: u64, error: Option<&Error>) {
        if let Some(record) = self.phases.get_mut(&phase) {
            record.milliseconds = Some(took);
            record.waits_for = None;
            match error {
                Some(error) => {
                    record.error = Some(error.chain());
                    record.hint = error.hint();
                }
                None => record.finished = Some(rfc3339(system.now())),
            }
        }
    }

    /// Notes that something in a phase is tried again after a failure; says whether
    /// it is another one than the last time. Not yet on disk.
    pub fn retried(&mut self, phase: Phase, failure: String, hint: Option<String>) -> bool {
        let Some(record) = self.phases.get_mut(&phase) else {
            return false;
        };
        record.finished = None;
        record.retries = record.retries.saturating_add(1);
        let is_new = record.last_transient.as_ref() != Some(&failure);
        record.last_transient = Some(failure);
        record.hint = hint;
        is_new
    }

    /// Notes what a phase waits for. Not yet on disk.
    pub fn waits(&mut self, phase: Phase, what: Option<&str>) {
        if let Some(record) = self.phases.get_mut(&phase) {
            record.waits_for = what.map(ToOwned::to_owned);
        }
    }
}
