//! A clone is a new machine: nothing of another's identity may be used.

use super::Error;
use super::journal::{Journal, Machine, Owner};
use crate::system::{Files, Level, System};

const KUBELET_PKI: &str = "/var/lib/kubelet/pki";
const SSM_REGISTRATION: &str = "/var/lib/amazon/ssm/registration";

/// The kubelet's unit needs this file, so without it the kubelet does not start.
const KUBELET_ENVIRONMENT: &str = "/etc/eks/kubelet/environment";

/// On the copy of another machine's disk: takes away what the kubelet made for
/// itself there and what it starts with, before anything else, so that the copy
/// never appears in the cluster as that machine, whatever happens next.
pub(super) fn forget_another(
    journal: &mut Journal,
    machine: &Machine,
    system: &dyn System,
) -> Result<(), Error> {
    if journal.owner(machine) != Owner::Another {
        return Ok(());
    }
    let message = "this disk was copied from another machine: starting anew";
    forget(journal, system, message)
}

/// Where the journal cannot be read: this machine's work or another's was done
/// here, nobody knows which. So nothing of it is used, as on a copied disk: a
/// kubelet makes its certificates anew, and the machine becomes a node again.
pub(super) fn forget_unknown(journal: &mut Journal, system: &dyn System) -> Result<(), Error> {
    let message = "the journal of earlier work cannot be read: starting anew";
    forget(journal, system, message)
}

fn forget(journal: &mut Journal, system: &dyn System, message: &str) -> Result<(), Error> {
    system.log(Level::Warning, message, &std::collections::BTreeMap::new());
    refuse_registration(system)?;
    system.remove(KUBELET_ENVIRONMENT)?;
    for name in system.names(KUBELET_PKI)? {
        system.remove(&format!("{KUBELET_PKI}/{name}"))?;
    }
    // What was written there is written here still: it stays ours to remove.
    *journal = Journal {
        files: std::mem::take(&mut journal.files),
        ..Journal::default()
    };
    journal.save(system)?;
    Ok(())
}

/// Makes the journal this machine's, or refuses the identity that was put into the
/// image: that is a mistake which a person has to mend. Says whether the journal
/// changed.
pub(super) fn establish(
    journal: &mut Journal,
    machine: &Machine,
    system: &dyn System,
) -> Result<bool, Error> {
    if journal.owner(machine) == Owner::This {
        let known = journal
            .machine
            .as_ref()
            .is_some_and(|known| known.smbios_uuid.is_some());
        // The firmware's identity may only now be readable.
        if known || machine.smbios_uuid.is_none() {
            return Ok(false);
        }
    } else {
        refuse_registration(system)?;
        if !system.names(KUBELET_PKI)?.is_empty() {
            return Err(Error::BakedIdentity {
                what: format!("a kubelet's identity ({KUBELET_PKI})"),
                hint: format!("remove {KUBELET_PKI} from the image and build it again"),
            });
        }
    }
    journal.machine = Some(machine.clone());
    Ok(true)
}

fn refuse_registration(files: &dyn Files) -> Result<(), Error> {
    if files.status(SSM_REGISTRATION)?.is_some() {
        return Err(Error::BakedIdentity {
            what: format!("a registration with SSM ({SSM_REGISTRATION})"),
            hint: "remove /var/lib/amazon/ssm from the image and build it again".into(),
        });
    }
    Ok(())
}
