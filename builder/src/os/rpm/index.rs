//! The indexes of rpm's database: the values by which it finds packages (rpm's
//! `lib/rpmdb.c`: `dbiTags`, `tag2index`, `td2key`). What they are does not depend on how
//! the database is kept.

use std::collections::HashSet;

use crate::packages::Damage;
use crate::packages::rpm::condition;
use crate::packages::rpm::header::Header;

/// Their names, with the tags whose values they have.
pub(super) const INDEXES: [(&str, u32); 18] = [
    ("Name", 1000),
    ("Basenames", 1117),
    ("Group", GROUP),
    ("Requirename", REQUIRES),
    ("Providename", 1047),
    ("Conflictname", CONFLICTS),
    ("Obsoletename", 1090),
    ("Triggername", TRIGGERS),
    ("Dirnames", 1118),
    ("Installtid", INSTALL_ID),
    ("Sigmd5", SIGNATURE_MD5),
    ("Sha1header", 269),
    ("Filetriggername", FILE_TRIGGERS),
    ("Transfiletriggername", TRANSACTION_TRIGGERS),
    ("Recommendname", RECOMMENDS),
    ("Suggestname", SUGGESTS),
    ("Supplementname", SUPPLEMENTS),
    ("Enhancename", ENHANCES),
];
const SIGNATURE_MD5: u32 = 261;
pub(super) const GROUP: u32 = 1016;
const REQUIRES: u32 = 1049;
const REQUIRE_FLAGS: u32 = 1048;
const CONFLICTS: u32 = 1054;
const TRIGGERS: u32 = 1066;
const INSTALL_ID: u32 = 1128;
const RECOMMENDS: u32 = 5046;
const SUGGESTS: u32 = 5049;
const SUPPLEMENTS: u32 = 5052;
const ENHANCES: u32 = 5055;
const FILE_TRIGGERS: u32 = 5069;
const FILE_TRIGGER_INDEXES: u32 = 5070;
const TRANSACTION_TRIGGERS: u32 = 5079;
const TRANSACTION_TRIGGER_INDEXES: u32 = 5080;
/// The group of a package that has none.
const NO_GROUP: &[u8] = b"Unknown";

/// A value by which a package is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Text, without a zero at its end.
    Text(Vec<u8>),
    /// A checksum, or a number in the order of the machine.
    Bytes(Vec<u8>),
}

impl Key {
    pub fn bytes(&self) -> &[u8] {
        let (Self::Text(bytes) | Self::Bytes(bytes)) = self;
        bytes
    }
}

/// A key of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: Key,
    /// Where the value is in the tag; of triggers on files, which trigger it belongs to.
    pub place: u32,
    /// Whether it is a condition or a name in one.
    pub is_of_condition: bool,
}

impl Entry {
    fn new(key: Key, place: usize) -> Self {
        Self {
            key,
            place: place as u32,
            is_of_condition: false,
        }
    }
}

/// The keys of a header in the index of `tag`, in the order in which rpm writes them.
///
/// # Errors
/// When the header is damaged.
pub(super) fn entries(header: &Header, tag: u32) -> Result<Vec<Entry>, Damage> {
    match tag {
        // In the order of the machine, which is the same for all that are supported.
        INSTALL_ID => {
            let numbers = header.numbers(tag)?.into_iter().enumerate();
            let key = |number: u64| Key::Bytes((number as u32).to_le_bytes().to_vec());
            Ok(numbers
                .map(|(place, number)| Entry::new(key(number), place))
                .collect())
        }
        SIGNATURE_MD5 => {
            let bytes = header.bytes(tag)?.into_iter();
            Ok(bytes
                .map(|bytes| Entry::new(Key::Bytes(bytes.to_vec()), 0))
                .collect())
        }
        GROUP if !header.has(tag) => Ok(vec![Entry::new(Key::Text(NO_GROUP.to_vec()), 0)]),
        _ => texts(header, tag),
    }
}

fn texts(header: &Header, tag: u32) -> Result<Vec<Entry>, Damage> {
    let flags = match tag {
        REQUIRES => header.numbers(REQUIRE_FLAGS)?,
        _ => Vec::new(),
    };
    let places = match tag {
        FILE_TRIGGERS => Some(header.numbers(FILE_TRIGGER_INDEXES)?),
        TRANSACTION_TRIGGERS => Some(header.numbers(TRANSACTION_TRIGGER_INDEXES)?),
        _ => None,
    };
    let has_conditions = matches!(
        tag,
        REQUIRES | CONFLICTS | RECOMMENDS | SUGGESTS | SUPPLEMENTS | ENHANCES
    );
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for (index, text) in header.strings(tag)?.into_iter().enumerate() {
        let is_passed = flags
            .get(index)
            .is_some_and(|flags| is_for_install_only(*flags));
        if is_passed || tag == TRIGGERS && !seen.insert(text) {
            continue;
        }
        let place = match &places {
            Some(places) => *places
                .get(index)
                .ok_or("a trigger of a header belongs to none")?
                as usize,
            None => index,
        };
        let is_of_condition = has_conditions && text.starts_with(b"(");
        let mut add = |text: Vec<u8>| {
            entries.push(Entry {
                is_of_condition,
                ..Entry::new(Key::Text(text), place)
            });
        };
        add(text.to_vec());
        if is_of_condition {
            condition::names(text)?.into_iter().for_each(add);
        }
    }
    Ok(entries)
}

/// Whether a need ends with the installation: nothing of it is looked for later
/// (`isInstallPreReq` and `isErasePreReq` of rpm's `include/rpm/rpmds.h`).
fn is_for_install_only(flags: u64) -> bool {
    const SCRIPT_PRE: u64 = 1 << 9;
    const SCRIPT_POST: u64 = 1 << 10;
    const SCRIPT_PREUN: u64 = 1 << 11;
    const SCRIPT_POSTUN: u64 = 1 << 12;
    const RPMLIB: u64 = 1 << 24;
    const KEYRING: u64 = 1 << 26;
    const PRETRANS: u64 = 1 << 7;
    const POSTTRANS: u64 = 1 << 5;
    let at_install = SCRIPT_PRE | SCRIPT_POST | RPMLIB | KEYRING | PRETRANS | POSTTRANS;
    flags & at_install != 0 && flags & (SCRIPT_PREUN | SCRIPT_POSTUN) == 0
}
