//! What the benchmark is given: `scripts/bench` finds all of it.

use std::path::PathBuf;

/// See the module documentation.
#[derive(Debug)]
pub struct Settings {
    /// The command, built for release.
    pub nodekiln: PathBuf,
    /// The first-boot program.
    pub firstboot: PathBuf,
    /// A bootstrapped Debian base as a raw image.
    pub base: PathBuf,
    /// A `NodeConfig` for the first-boot program.
    pub node_config: PathBuf,
    /// A folder with the components of a node, as `scripts/components` makes it.
    pub components: PathBuf,
    /// The guest kernel that `scripts/build-guest-kernel` makes.
    pub guest_kernel: PathBuf,
    /// A distribution's kernel for a machine in QEMU, as `scripts/vm-kernel` obtains it.
    pub vm_kernel: PathBuf,
    /// A policy of SELinux, as `scripts/judges selinux` obtains it.
    pub policy: PathBuf,
    /// A folder for all that is made; it may hold 10 GB.
    pub work: PathBuf,
    /// Where the results go.
    pub results: PathBuf,
    /// A Debian root with virt-customize in it, or why there is none.
    pub virt_customize: Result<PathBuf, String>,
    /// How often each subject runs.
    pub rounds: usize,
    /// The experiments to run; all, when empty.
    pub only: Vec<String>,
}

impl Settings {
    /// Takes the settings from the command line: `NAME VALUE` pairs.
    ///
    /// # Errors
    /// In words, when one is missing or unknown.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut only, mut rounds) = (Vec::new(), 5);
        let (mut paths, mut missing) = (std::collections::BTreeMap::new(), None);
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} has no value", pair[0]));
            };
            match name.as_str() {
                "--rounds" => {
                    rounds = value
                        .parse()
                        .ok()
                        .filter(|rounds| *rounds > 0)
                        .ok_or_else(|| format!("--rounds {value} is no number of rounds"))?;
                }
                "--only" => only.push(value.clone()),
                "--no-virt-customize" => missing = Some(value.clone()),
                "--nodekiln" | "--firstboot" | "--base" | "--node-config" | "--components"
                | "--guest-kernel" | "--vm-kernel" | "--policy" | "--work" | "--results"
                | "--virt-customize" => {
                    paths.insert(name.clone(), PathBuf::from(value));
                }
                _ => return Err(format!("{name} is unknown")),
            }
        }
        let mut take = |name: &str| paths.remove(name).ok_or_else(|| format!("give {name}"));
        Ok(Self {
            nodekiln: take("--nodekiln")?,
            firstboot: take("--firstboot")?,
            base: take("--base")?,
            node_config: take("--node-config")?,
            components: take("--components")?,
            guest_kernel: take("--guest-kernel")?,
            vm_kernel: take("--vm-kernel")?,
            policy: take("--policy")?,
            work: take("--work")?,
            results: take("--results")?,
            virt_customize: match missing {
                Some(reason) => Err(reason),
                None => Ok(take("--virt-customize")?),
            },
            rounds,
            only,
        })
    }

    /// Whether the experiment `name` is to run.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
