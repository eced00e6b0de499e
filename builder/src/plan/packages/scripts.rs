//! Whether what would run for a package may be left out of an image.

use crate::error::{Error, Result};
use crate::packages::Package;
use crate::packages::deb::{Deb, INSTALL_SCRIPTS, scripts};
use crate::plan::draft::Draft;

use super::{Wishes, linker, not_run, shown};

/// What would run for a package, in words; what is accepted goes into `wishes`.
pub(super) fn would_run(
    draft: &mut Draft<'_>,
    package: &Package,
    deb: &Deb,
    triggered: Vec<String>,
    wishes: &mut Wishes,
) -> Result<Option<Error>> {
    let mut runs = Vec::new();
    let mut ldconfig = false;
    for name in INSTALL_SCRIPTS {
        let Some(file) = deb.files.get(name) else {
            continue;
        };
        let text = String::from_utf8_lossy(&file.content);
        match scripts::judge(&text) {
            Ok(effects) => {
                ldconfig |= effects.ldconfig;
                wishes.enable.extend(effects.enable);
            }
            Err(lines) => runs.push(format!("{name}: {}", shown(&lines))),
        }
    }
    for trigger in triggered {
        if trigger == super::triggers::LDCONFIG {
            ldconfig = true;
        } else {
            runs.push(trigger);
        }
    }
    if ldconfig {
        runs.extend(linker::cached_library(draft, package)?);
    }
    Ok(not_run(package, &runs))
}
