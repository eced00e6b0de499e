//! What was found and what is wished, against the matrix of [`super::systems`].

use super::Os;
use super::systems::{self, Cgroups, System};
use crate::error::{Error, Result};
use crate::profile::model::{ComponentName, CredentialProvider, Profile};

/// From this minor version on the kubelet does not start with cgroups v1, unless its
/// configuration says `failCgroupV1: false` (KEP-5573).
const FIRST_WITHOUT_CGROUPS_V1: u32 = 35;
/// What makes systemd mount the unified hierarchy.
pub const UNIFIED: &str = "systemd.unified_cgroup_hierarchy=1";

/// Why the image is none that is supported, in the order of weight; empty when it is one.
pub fn problems(os: &Os, profile: &Profile) -> Vec<Error> {
    let name = &os.pretty_name;
    let supported = || {
        format!(
            "supported are {}; --allow-unsupported bakes it all the same",
            systems::supported()
        )
    };
    let found = System::of(&os.id);
    let Some(system) = found.filter(|system| !system.releases.is_empty()) else {
        let what = found.map_or_else(
            || format!("ID '{}', like '{}'", os.id, os.id_like.join(" ")),
            |system| format!("{}, a system that is only known", system.name),
        );
        return vec![
            Error::unsupported(format!("bake {name} ({what}): it is not supported"))
                .hint(supported()),
        ];
    };
    let Some(release) = system.release(&os.version_id) else {
        return vec![
            Error::unsupported(format!(
                "bake {name}: release '{}' of {} is not supported",
                os.version_id, system.name
            ))
            .hint(supported()),
        ];
    };
    let hint = "see docs/support.md; --allow-unsupported bakes it all the same";
    let mut problems = Vec::new();
    let mut problem = |text: String, hint: String| {
        problems.push(Error::unsupported(format!("bake {name}: {text}")).hint(hint));
    };
    if !release.architectures.contains(&os.architecture) {
        let text = format!("it is not supported on {}", os.architecture.name());
        problem(text, hint.to_owned());
    }
    let provider = profile.spec.credential_provider;
    if !release.providers.contains(&provider) {
        let text = format!(
            "the credential provider {} is not supported",
            provider.name()
        );
        problem(text, hint.to_owned());
    }
    let version = &profile.spec.kubernetes.version;
    let (oldest, newest) = release.kubernetes;
    match minor(version) {
        Some(minor) if (oldest..=newest).contains(&minor) => {}
        _ => problem(
            format!("Kubernetes {version} is not supported, 1.{oldest} to 1.{newest} are"),
            hint.to_owned(),
        ),
    }
    let arguments = profile.spec.kernel.command_line.iter().map(String::as_str);
    let is_v1 = os.cgroups.with_arguments(arguments) == Cgroups::V1;
    if is_v1 && minor(version).is_some_and(|minor| minor >= FIRST_WITHOUT_CGROUPS_V1) {
        problem(
            format!("it boots into cgroups v1, and the kubelet {version} does not start there"),
            format!(
                "add {UNIFIED} to spec.kernel.commandLine; or set failCgroupV1: false in the \
                 kubelet's configuration of every NodeConfig and say --allow-unsupported"
            ),
        );
    }
    problems
}

/// The minor version of `1.34.4`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

/// Refuses what is not supported, unless that is allowed: then each reason is a warning.
///
/// # Errors
/// [`crate::Class::Unsupported`] with all reasons.
pub fn check(os: &Os, profile: &Profile, allow: bool) -> Result<Vec<String>> {
    let problems = problems(os, profile);
    if allow {
        return Ok(problems
            .iter()
            .map(|problem| format!("{}: not supported, but allowed", problem.message()))
            .collect());
    }
    let mut problems = problems.into_iter();
    match problems.next() {
        None => Ok(Vec::new()),
        Some(first) => Err(first.and(problems.collect())),
    }
}

/// The package of the SSM agent, on every system.
pub const SSM_AGENT: &str = "amazon-ssm-agent";

/// What the user should know of this base, although it will do; `packages` are the names
/// of those that are laid into it.
pub fn notes(os: &Os, profile: &Profile, packages: &[&str]) -> Vec<String> {
    let system = os.system();
    let mut notes = Vec::new();
    let is_omitted = |name: ComponentName| {
        let source = profile.spec.kubernetes.components.get(&name);
        source.is_some_and(|source| source.omit)
    };
    if is_omitted(ComponentName::Kubelet) {
        return notes;
    }
    let package = |pick: fn(&'static System) -> &'static str| {
        system.map_or_else(String::new, |system| {
            format!(
                " (in a machine of the base: {})",
                system.install(pick(system))
            )
        })
    };
    if os.iptables.is_none() {
        notes.push(format!(
            "the base has no iptables: network plugins that call it do not work, and the \
             kubelet's unit leaves the policy of FORWARD alone{}",
            package(|system| system.iptables[0])
        ));
    }
    if os.conntrack.is_none() {
        notes.push(format!(
            "the base has no conntrack, which people look for when connections break{}",
            package(|system| system.conntrack)
        ));
    }
    let by_ssm = profile.spec.credential_provider == CredentialProvider::Ssm;
    if by_ssm && os.ssm_agent.is_none() && !packages.contains(&SSM_AGENT) {
        notes.push(format!(
            "the base has no SSM agent, and first boot registers the machine with one: list its \
             package in spec.packages{}",
            package(|_| SSM_AGENT)
        ));
    }
    if let Some(version) = old_containerd_of_noble(os, profile) {
        notes.push(format!(
            "containerd {version} of the base is older than 1.7.19: on Ubuntu 24.04 AppArmor \
             keeps pods from ending; bake containerd instead of taking that of the base"
        ));
    }
    if os.fips {
        notes.push(
            "the base boots in FIPS mode: the programs that are baked bring cryptography of \
             their own, which is not validated"
                .to_owned(),
        );
    }
    notes
}

/// See <https://bugs.launchpad.net/bugs/2065423>.
fn old_containerd_of_noble<'a>(os: &'a Os, profile: &Profile) -> Option<&'a str> {
    let components = &profile.spec.kubernetes.components;
    let source = components.get(&ComponentName::Containerd)?;
    let is_noble = os.id == "ubuntu" && os.version_id == "24.04" && source.from_base;
    let version = os.containerd.as_ref()?.version.as_deref()?;
    let mut numbers = version
        .split(|character: char| !character.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or_default());
    let found = [numbers.next()?, numbers.next()?, numbers.next()?];
    (is_noble && found < [1, 7, 19]).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;
    use crate::os::{Init, PackageDatabase, Program, Resolver, Selinux};
    use crate::plan::tests::machine;
    use crate::profile::model::Architecture;

    fn os(id: &str, version: &str, cgroups: Cgroups) -> Os {
        Os {
            id: id.to_owned(),
            version_id: version.to_owned(),
            pretty_name: format!("{id} {version}"),
            id_like: vec!["rhel".to_owned()],
            init: Init::Systemd,
            architecture: Architecture::X86_64,
            kernels: Vec::new(),
            containerd: None,
            iptables: None,
            conntrack: None,
            ssm_agent: None,
            resolver: Resolver::Plain,
            firewall: None,
            cgroups,
            fips: false,
            cloud_init: Vec::new(),
            packages: PackageDatabase::None,
            selinux: Selinux::Absent,
        }
    }

    fn profile(version: &str) -> Profile {
        let mut profile = machine::profile();
        version.clone_into(&mut profile.spec.kubernetes.version);
        profile
    }

    #[test]
    fn takes_every_row_of_the_matrix() {
        for system in systems::SYSTEMS {
            for release in system.releases {
                let os = os(system.id, release.version, Cgroups::V2);
                for minor in release.kubernetes.0..=release.kubernetes.1 {
                    let profile = profile(&format!("1.{minor}.1"));
                    assert!(check(&os, &profile, false).expect("supported").is_empty());
                }
            }
        }
    }

    #[test]
    fn says_what_is_not_supported_and_how_to_do_it_all_the_same() {
        for (id, version, kubernetes, words) in [
            ("rocky", "9.6", "1.34.4", "Rocky Linux"),
            ("centos", "9", "1.34.4", "CentOS"),
            ("arch", "", "1.34.4", "ID 'arch', like 'rhel'"),
            ("rhel", "10.0", "1.34.4", "release '10.0'"),
            ("amzn", "2", "1.34.4", "release '2'"),
            ("rhel", "9.6", "1.29.9", "1.30 to 1.36"),
            ("rhel", "9.6", "1.37.0", "1.30 to 1.36"),
            ("rhel", "9.6", "2.0.0", "Kubernetes 2.0.0"),
        ] {
            let (os, profile) = (os(id, version, Cgroups::V2), profile(kubernetes));
            let error = check(&os, &profile, false).expect_err("not supported");
            assert_eq!(error.class(), Class::Unsupported);
            assert!(error.message().contains(words), "{error}");
            let hint = error.hint_text().expect("a hint");
            assert!(hint.contains("--allow-unsupported"), "{hint}");
            let allowed = check(&os, &profile, true).expect("allowed");
            assert!(allowed[0].contains(words), "{allowed:?}");
        }
    }

    #[test]
    fn the_kubelet_of_1_35_needs_the_unified_hierarchy() {
        let os = os("rhel", "8.10", Cgroups::V1);
        assert!(check(&os, &profile("1.34.4"), false).is_ok());
        let mut profile = profile("1.35.1");
        let error = check(&os, &profile, false).expect_err("does not start");
        assert!(error.hint_text().expect("hint").contains(UNIFIED));
        profile.spec.kernel.command_line = vec![UNIFIED.to_owned()];
        assert!(check(&os, &profile, false).is_ok());
    }

    #[test]
    fn tells_what_a_base_lacks() {
        let mut os = os("ubuntu", "24.04", Cgroups::V2);
        let told = notes(&os, &profile("1.34.4"), &[]).join("\n");
        assert!(told.contains("apt-get install iptables"), "{told}");
        assert!(told.contains("apt-get install conntrack"), "{told}");
        let program = |version: &str| {
            Some(Program {
                path: crate::os::tree::fixed("/usr/bin/x"),
                version: Some(version.to_owned()),
            })
        };
        (os.iptables, os.conntrack) = (program("1"), program("1"));
        for (version, is_old) in [
            ("1.7.12-0ubuntu4", true),
            ("1.7.28-0ubuntu1~24.04", false),
            ("2.2.4-1", false),
        ] {
            os.containerd = program(version);
            let told = notes(&os, &profile("1.34.4"), &[]);
            assert_eq!(told.len(), usize::from(is_old), "{version}: {told:?}");
        }
        let mut by_ssm = profile("1.34.4");
        by_ssm.spec.credential_provider = CredentialProvider::Ssm;
        assert!(notes(&os, &by_ssm, &[])[0].contains("no SSM agent"));
        assert!(notes(&os, &by_ssm, &[SSM_AGENT]).is_empty());
        os.ssm_agent = Some(crate::os::SsmAgent::Snap);
        assert!(notes(&os, &by_ssm, &[]).is_empty());
    }
}
