//! `ds=nocloud;s=PLACE;h=NAME;i=ID`: how a hypervisor or a boot loader names the
//! place of a NoCloud seed, as cloud-init reads it
//! (<https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>).

use super::kernel_command_line::words;
use super::smbios;

/// What such a line says. Host name (`h=`) and instance ID (`i=`) are for
/// cloud-init and not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeedLine {
    /// `s=`, `seedfrom=`: the place, as it was written.
    pub seed_from: Option<String>,
}

/// Where a seed lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On a volume with the label.
    Volume,
    /// The user data as a file of the machine.
    File(String),
    /// The user data by http or https.
    Url(String),
}

impl SeedLine {
    /// Reads the kernel command line, or the serial number of a machine; `None` when
    /// neither `ds=nocloud` nor `ds=nocloud-net` stands there. The last counts.
    pub fn read(line: &str) -> Option<Self> {
        words(line).iter().rev().find_map(|word| Self::word(word))
    }

    fn word(word: &str) -> Option<Self> {
        let mut pieces = word.strip_prefix("ds=")?.split(';');
        let name = pieces.next()?;
        if !["nocloud", "nocloud-net"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            return None;
        }
        let seed_from = pieces
            .filter_map(|piece| piece.split_once('='))
            .filter(|(key, value)| matches!(*key, "s" | "seedfrom") && !value.is_empty())
            .map(|(_, value)| value.to_owned())
            .next_back();
        Some(Self { seed_from })
    }

    /// The place of the user data. `field` gives fields of the firmware's tables by
    /// the kernel's names, for variables such as `__dmi.system-uuid__`.
    ///
    /// # Errors
    /// When the place is neither a folder nor a URL: a text that says so.
    pub fn place(&self, field: &dyn Fn(&str) -> Option<String>) -> Result<Place, String> {
        let Some(seed_from) = &self.seed_from else {
            return Ok(Place::Volume);
        };
        if is_url(seed_from) {
            let in_url = |name: &str| field(name).map(|value| percent_encoded(&value));
            let url = user_data_of(&smbios::expand(seed_from, &in_url));
            return Ok(Place::Url(url));
        }
        let path = match seed_from.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case("file://") => &seed_from[7..],
            _ => seed_from.as_str(),
        };
        if !path.starts_with('/') {
            return Err(format!(
                "`s=` names neither a folder of this machine nor a URL: {}",
                shown(seed_from)
            ));
        }
        // What the firmware says must not lead to another folder.
        let in_path = |name: &str| field(name).map(|value| value.replace('/', "_"));
        Ok(Place::File(user_data_of(&smbios::expand(path, &in_path))))
    }
}

/// The user data's place in a seed: `%s` stands for its name, else it comes after
/// a slash, or right behind a query.
fn user_data_of(base: &str) -> String {
    const NAME: &str = "user-data";
    if base.contains("%s") {
        return base.replace("%s", NAME);
    }
    let has_query = is_url(base) && base.contains('?');
    if base.ends_with('/') || has_query {
        format!("{base}{NAME}")
    } else {
        format!("{base}/{NAME}")
    }
}

/// Whether a text begins as a URL that can be fetched.
pub(super) fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

/// All but what RFC 3986 calls unreserved is encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A place for people: without user, password and query, and not too long.
pub fn shown(place: &str) -> String {
    const LONGEST: usize = 200;
    let without_query = place.split(['?', '#']).next().unwrap_or_default();
    let text = match without_query.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = match rest.find('/') {
                Some(slash) => rest.split_at(slash),
                None => (rest, ""),
            };
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => without_query.to_owned(),
    };
    text.chars()
        .map(|character| {
            if character.is_control() {
                '?'
            } else {
                character
            }
        })
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests;
