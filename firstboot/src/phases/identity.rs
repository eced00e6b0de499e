//! A clone is a new machine: nothing of another's identity may be used.

use super::journal::{Journal, Machine, Owner};
use super::{Error, unit};
use crate::credentials::ssm;
use crate::system::{Files, Level, System};

const KUBELET_PKI: &str = "/var/lib/kubelet/pki";

/// What the name of something of another machine's ends in.
const ASIDE: &str = ".of-another-machine";

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

/// In another image than before, over state that was kept: the same machine does its work
/// anew and stays the node that it is. Says whether the journal changed.
pub(super) fn enter_image(journal: &mut Journal, system: &dyn System) -> Result<bool, Error> {
    let before = journal.image.clone();
    if journal.enter(super::journal::image(system)?) {
        let message = "this machine has another image than before: its work is done anew, and \
                       it stays the node that it is";
        system.log(Level::Info, message, &std::collections::BTreeMap::new());
        system.milestone(message);
    }
    Ok(journal.image != before)
}

fn forget(journal: &mut Journal, system: &dyn System, message: &str) -> Result<(), Error> {
    system.log(Level::Warning, message, &std::collections::BTreeMap::new());
    system.remove(KUBELET_ENVIRONMENT)?;
    system.remove(super::instance::REMEMBERED)?;
    system.remove(super::cluster::REMEMBERED)?;
    set_registration_aside(system)?;
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

/// Another machine's registration is of no use here, but its key may be all that
/// is left of it: it is moved aside, never used. The agent is stopped before.
fn set_registration_aside(system: &dyn System) -> Result<(), Error> {
    let is_there = |path: &str| Ok::<_, Error>(system.status(path)?.is_some());
    if is_there(ssm::REGISTRATION)? || is_there(ssm::REGISTRATION_KEY)? {
        if let Some(agent) = ssm::agent(system)
            && unit::is_up(system, agent.unit)?
        {
            unit::stop(system, agent.unit)?;
        }
        // Credentials first: without the folder this is not come back to.
        if is_there(ssm::CREDENTIALS)? {
            system.rename(ssm::CREDENTIALS, &free_name(system, ssm::CREDENTIALS)?)?;
        }
        system.rename(ssm::FOLDER, &free_name(system, ssm::FOLDER)?)?;
    }
    Ok(())
}

/// A copy of a copy of a copy still finds a name.
fn free_name(files: &dyn Files, path: &str) -> Result<String, Error> {
    let first = format!("{path}{ASIDE}");
    let mut name = first.clone();
    let mut number = 1;
    while files.status(&name)?.is_some() {
        number += 1;
        name = format!("{first}-{number}");
    }
    Ok(name)
}

fn refuse_registration(files: &dyn Files) -> Result<(), Error> {
    for path in [ssm::REGISTRATION, ssm::REGISTRATION_KEY] {
        if files.status(path)?.is_some() {
            return Err(Error::BakedIdentity {
                what: format!("a registration with SSM ({path})"),
                hint: format!("remove {} from the image and build it again", ssm::FOLDER),
            });
        }
    }
    Ok(())
}
