//! What the NodeConfig of an instance says of the environment.

use crate::node_config::NodeConfig;
use crate::system::Variables;

/// The variables of this program: its own, and over them those that the NodeConfig
/// gives to the whole instance, as with nodeadm. On a hybrid node they have no
/// effect.
pub(super) fn of_ourselves(config: &NodeConfig, variables: &Variables) -> Variables {
    let own = variables.clone();
    if config.spec.hybrid.is_some() {
        return own;
    }
    let given = config.spec.instance.environment.get("default");
    given
        .into_iter()
        .flatten()
        .fold(own, |all, (name, value)| all.with(name, value))
}
