//! `mtu-validation`: the MTU of the interface of the default route is one of a
//! usual network, as nodeadm's `debug` asks. A warning.

use super::interfaces::default_interface;
use super::{Finding, Subject};
use crate::system;

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let Some(interface) = default_interface(subject)? else {
        return Ok(Finding::could_not_run("there is no default route"));
    };
    let text = subject.text(&format!("/sys/class/net/{interface}/mtu"))?;
    let mtu = text.and_then(|text| text.trim().parse::<u32>().ok());
    let Some(mtu) = mtu else {
        return Ok(Finding::could_not_run(format!(
            "the MTU of {interface} is not known"
        )));
    };
    let seen = format!("the MTU of {interface} is {mtu}");
    Ok(match mtu {
        68..=1500 | 8000..=9001 => Finding::ok(seen),
        _ => Finding::warning(
            seen,
            "1500, or 9001 for jumbo frames, is usual; all nodes and routers between must agree",
        ),
    })
}
