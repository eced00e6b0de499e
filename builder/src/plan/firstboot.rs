//! The first-boot program in the image.

use super::Content;
use super::draft::Draft;
use crate::error::Result;
use crate::os::tree::fixed;

/// The unit that starts it, without `.service`; the overlay `linux` brings it.
pub const UNIT_STEM: &str = "nodekiln-firstboot";
/// Where it lies.
pub const PROGRAM: &str = "/usr/libexec/nodekiln/firstboot";
/// Its name for people.
pub const LINK: &str = "/usr/sbin/firstboot";

pub(super) fn plan(draft: &mut Draft<'_>, program: &Content) -> Result<()> {
    draft.put_file(&fixed(PROGRAM), 0o755, program.clone(), "first boot")?;
    draft.put_link(&fixed(LINK), PROGRAM, "first boot")
}
