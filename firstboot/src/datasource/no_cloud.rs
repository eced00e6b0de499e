//! The NoCloud source: the place that `ds=nocloud;s=` names, else a volume.

use std::io;
use std::path::Path;

use super::answer::Answer;
use super::fetch::fetch;
use super::seed_line::{Place, SeedLine, shown};
use super::source::SEED_URL;
use super::{MAXIMUM_FILE, Machine, Outside, smbios};

/// A place, and who names it.
pub(super) struct Named {
    pub place: Place,
    pub by: &'static str,
}

/// The place of the seed. The kernel command line goes before the serial number,
/// as with cloud-init.
///
/// # Errors
/// The answer, when a place is named that is none.
pub(super) fn place(machine: &dyn Machine) -> Result<Named, Answer> {
    // Whether it can be read at all is said elsewhere.
    let line = machine.kernel_command_line().unwrap_or_default();
    let serial = smbios::field(machine, "product_serial").unwrap_or_default();
    let named = [
        ("the kernel command line", line),
        ("the SMBIOS serial number", serial),
    ];
    let field = |name: &str| smbios::field(machine, name);
    for (by, text) in named {
        let Some(line) = SeedLine::read(&text).filter(|line| line.seed_from.is_some()) else {
            continue;
        };
        let place = line.place(&field).map_err(|problem| {
            Answer::unusable(
                format!("{by}: {problem}"),
                "give s=http://HOST/FOLDER/, s=https://..., or s=/FOLDER/",
            )
        })?;
        return Ok(Named { place, by });
    }
    Ok(Named {
        place: Place::Volume,
        by: "",
    })
}

/// What the seed in a folder of this machine gives.
pub(super) fn file(path: &str, by: &str, machine: &dyn Machine) -> Answer {
    let origin = format!("{path} (named by {by})");
    match machine.read_file(Path::new(path), MAXIMUM_FILE) {
        Ok(content) => Answer::user_data(origin, content.bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Answer::unusable(
            format!("{origin} does not exist"),
            "lay the user data there, or take `s=` away",
        ),
        Err(error) => Answer::unreadable(&origin, &error),
    }
}

/// What the seed on a web server gives.
pub(super) fn url(url: &str, by: &str, outside: &dyn Outside) -> Answer {
    match fetch(url, SEED_URL, outside) {
        Ok(body) => Answer::user_data(format!("{} (named by {by})", shown(url)), body),
        Err(answer) => answer,
    }
}
