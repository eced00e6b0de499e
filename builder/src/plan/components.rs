//! The node components, where upstream's own tools look for them.
//!
//! Paths, modes, the kubelet's unit and the tracker are those of nodeadm
//! (github.com/aws/eks-hybrid, `internal/`), so that `nodeadm upgrade` and
//! `nodeadm uninstall` recognise the node.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::compute::Inputs;
use super::draft::Draft;
use super::{Content, Source};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::tree::fixed;
use crate::os::{Tree, elf_architecture};
use crate::profile::model::{ComponentName, CredentialProvider};
use crate::volume::Kind;

/// The kubelet's unit, as nodeadm installs it. It has no `-` before its
/// environment file: the kubelet cannot start before first boot wrote it.
const KUBELET_UNIT: &str = include_str!("kubelet.service");
/// Its line that needs iptables.
const IPTABLES_LINE: &str = "ExecStartPre=/sbin/iptables -P FORWARD ACCEPT -w 5\n";
/// Where the kubelet's unit lies.
const KUBELET_UNIT_PATH: &str = "/etc/systemd/system/kubelet.service";
/// The kubelet's version, where Amazon's images have it and first boot looks.
const KUBELET_VERSION_PATH: &str = "/etc/eks/kubelet-version.txt";
/// containerd's unit, for a containerd that does not come from a package: its
/// release archive has none.
const CONTAINERD_UNIT: &str = include_str!("containerd.service");
/// Where containerd's unit lies.
const CONTAINERD_UNIT_PATH: &str = "/etc/systemd/system/containerd.service";
/// nodeadm's record of what it installed.
const TRACKER_PATH: &str = "/opt/nodeadm/tracker";
/// The SSM agent's configuration.
const SSM_CONFIG_PATH: &str = "/etc/amazon/ssm/amazon-ssm-agent.json";
/// Where the kubelet and containerd look for CNI plugins.
const CNI_FOLDER: &str = "/opt/cni/bin";
/// Where distributions put them.
const DISTRIBUTION_CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/usr/libexec/cni"];

pub(super) fn plan(draft: &mut Draft<'_>, inputs: &Inputs<'_>) -> Result<()> {
    for (name, component) in &inputs.locked.components {
        let reason = format!("component {}", name.name());
        for (member, file) in &component.members {
            let mode = u32::from_str_radix(&file.mode, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .ok_or_else(|| {
                    Error::input(format!(
                        "plan {reason}: the mode '{}' of {member} in the lock is no octal mode",
                        file.mode
                    ))
                    .hint("run: nodekiln lock")
                })?;
            let content = Content {
                sha256: file.sha256,
                size: file.size,
                source: Source::Store,
            };
            draft.put_file(&file.destination, mode, content, &reason)?;
        }
    }
    for (name, source) in &inputs.profile.spec.kubernetes.components {
        if source.from_base {
            check_base_has(draft, *name, inputs)?;
        }
    }
    if is_present(inputs, ComponentName::Containerd) {
        plan_containerd(draft, inputs)?;
    }
    if is_present(inputs, ComponentName::Kubelet) {
        plan_kubelet(draft)?;
    }
    if is_baked(inputs, ComponentName::Kubelet)
        && let Some(version) = &inputs.kubelet_version
    {
        // What `kubelet --version` prints: first boot then need not start the
        // largest program of the node to ask. containerd's line names a build
        // that nothing here knows, so first boot asks it itself.
        let text = format!("Kubernetes v{version}\n");
        draft.put_text(
            &fixed(KUBELET_VERSION_PATH),
            0o644,
            text,
            "component kubelet",
        )?;
    }
    plan_cni(draft, inputs)?;
    plan_ssm(draft, inputs)?;
    draft.put_text(
        &fixed(TRACKER_PATH),
        0o644,
        tracker(inputs),
        "nodeadm tracker",
    )
}

/// Whether the image is to be a node.
pub(super) fn has_kubelet(inputs: &Inputs<'_>) -> bool {
    is_present(inputs, ComponentName::Kubelet)
}

fn is_baked(inputs: &Inputs<'_>, name: ComponentName) -> bool {
    inputs.locked.components.contains_key(&name)
}

fn is_from_base(inputs: &Inputs<'_>, name: ComponentName) -> bool {
    let components = &inputs.profile.spec.kubernetes.components;
    components.get(&name).is_some_and(|source| source.from_base)
}

fn is_present(inputs: &Inputs<'_>, name: ComponentName) -> bool {
    is_baked(inputs, name) || is_from_base(inputs, name)
}

/// The places where a component of the base may be: those that units,
/// kubeconfig and containerd name, or that are in every `PATH`.
fn places(name: ComponentName) -> &'static [&'static str] {
    match name {
        ComponentName::Kubelet => &["/usr/bin/kubelet"],
        ComponentName::Kubectl => &["/usr/local/bin/kubectl", "/usr/bin/kubectl"],
        ComponentName::Containerd => &["/usr/bin/containerd", "/usr/local/bin/containerd"],
        ComponentName::Runc => &["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"],
        ComponentName::CniPlugins => &[
            "/opt/cni/bin/loopback",
            "/usr/lib/cni/loopback",
            "/usr/libexec/cni/loopback",
        ],
        ComponentName::EcrCredentialProvider => {
            &["/etc/eks/image-credential-provider/ecr-credential-provider"]
        }
        ComponentName::AwsIamAuthenticator => &["/usr/local/bin/aws-iam-authenticator"],
        ComponentName::AwsSigningHelper => &["/usr/local/bin/aws_signing_helper"],
        ComponentName::SsmSetupCli => &["/opt/ssm/ssm-setup-cli"],
    }
}

fn check_base_has(draft: &mut Draft<'_>, name: ComponentName, inputs: &Inputs<'_>) -> Result<()> {
    for place in places(name) {
        let Some((real, metadata)) = draft.stat(&fixed(place))? else {
            continue;
        };
        if metadata.kind != Kind::File {
            continue;
        }
        if metadata.attributes.mode & 0o111 == 0 {
            return Err(Error::input(format!(
                "take {} from the base: {real} is not executable (mode {:04o})",
                name.name(),
                metadata.attributes.mode
            )));
        }
        let head = draft.read_head(&real, 20)?;
        let wanted = inputs.profile.spec.architecture;
        return match elf_architecture(&head) {
            Some(found) if found != wanted => Err(Error::input(format!(
                "take {} from the base: {real} is for {}, not for {}",
                name.name(),
                found.name(),
                wanted.name()
            ))),
            _ => Ok(()),
        };
    }
    Err(Error::input(format!(
        "take {} from the base: it has none of {}",
        name.name(),
        places(name).join(", ")
    ))
    .hint(format!(
        "add its package to the base, or give spec.kubernetes.components.{} a url or path",
        name.name()
    )))
}

/// containerd keeps the unit and the state (enabled or not) that its package
/// gave it; first boot enables and restarts it, as nodeadm does. Only one that
/// comes without a unit gets ours, not enabled.
fn plan_containerd(draft: &mut Draft<'_>, inputs: &Inputs<'_>) -> Result<()> {
    for folder in super::services::UNIT_FOLDERS {
        if draft.is_file(&fixed(folder).join("containerd.service")?)? {
            return Ok(());
        }
    }
    if is_baked(inputs, ComponentName::Containerd) {
        return draft.put_text(
            &fixed(CONTAINERD_UNIT_PATH),
            0o644,
            CONTAINERD_UNIT,
            "component containerd",
        );
    }
    Err(Error::input(
        "take containerd from the base: it has no containerd.service, which the kubelet requires",
    )
    .hint(format!(
        "add the package {} to the base, or bake containerd from its archive",
        inputs
            .os
            .system()
            .map_or("containerd", |system| system.containerd[0])
    )))
}

fn plan_kubelet(draft: &mut Draft<'_>) -> Result<()> {
    let reason = "component kubelet";
    // The policy is left alone where nothing is there that could have changed it.
    let unit = if draft.is_file(&fixed("/sbin/iptables"))? {
        KUBELET_UNIT.to_owned()
    } else {
        KUBELET_UNIT.replacen(IPTABLES_LINE, "", 1)
    };
    draft.put_text(&fixed(KUBELET_UNIT_PATH), 0o644, unit, reason)?;
    // No /etc/kubernetes/manifests: the kubelet's configuration names no folder
    // of static pods, so nothing would read it.
    draft.put_directory(&fixed("/var/lib/kubelet"), 0o755, reason)?;
    draft.put_directory(&fixed("/etc/cni/net.d"), 0o755, reason)
}

/// A distribution's plugins lie elsewhere than where containerd is told to look:
/// links bring them there.
fn plan_cni(draft: &mut Draft<'_>, inputs: &Inputs<'_>) -> Result<()> {
    if !is_present(inputs, ComponentName::CniPlugins) {
        return Ok(());
    }
    let reason = "component cni-plugins";
    let folder = fixed(CNI_FOLDER);
    draft.put_directory(&folder, 0o755, reason)?;
    if is_baked(inputs, ComponentName::CniPlugins) || draft.is_file(&folder.join("loopback")?)? {
        return Ok(());
    }
    for distribution in DISTRIBUTION_CNI_FOLDERS {
        for entry in draft.list_following(&fixed(distribution))? {
            let plugin: ImagePath = fixed(distribution).join(&entry.name)?;
            if let (Kind::File, Some(target)) = (entry.kind, plugin.as_str()) {
                draft.put_link(&folder.join(&entry.name)?, target, reason)?;
            }
        }
    }
    Ok(())
}

/// What `nodeadm install --credential-provider ssm` leaves in the agent's
/// configuration: a longer pause between attempts to get credentials. Whatever
/// else is configured stays.
fn plan_ssm(draft: &mut Draft<'_>, inputs: &Inputs<'_>) -> Result<()> {
    if inputs.profile.spec.credential_provider != CredentialProvider::Ssm {
        return Ok(());
    }
    let reason = "SSM agent configuration";
    let path = fixed(SSM_CONFIG_PATH);
    let present = draft.read_text(&path)?;
    let mut config = match &present {
        None => Map::new(),
        Some(text) => match serde_json::from_str(text) {
            Ok(Value::Object(config)) => config,
            _ => {
                return Err(Error::input(format!(
                    "add to {path} of the base: it is no JSON object"
                )));
            }
        },
    };
    let section = config.entry("Ssm").or_insert_with(|| json!({}));
    match section {
        Value::Object(section) => {
            section.insert("CredentialRetryMaxSleepSeconds".to_owned(), json!(60));
        }
        _ => {
            return Err(Error::input(format!(
                "add to {path} of the base: 'Ssm' is no JSON object"
            )));
        }
    }
    let text = indented(&Value::Object(config));
    if present.is_some() {
        return draft.edit_text(&path, text, reason);
    }
    draft.put_directory(&fixed("/etc/amazon"), 0o755, reason)?;
    draft.put_directory(&fixed("/etc/amazon/ssm"), 0o700, reason)?;
    draft.put_text(&path, 0o600, text, reason)
}

/// JSON with four spaces, as nodeadm and the agent write it.
fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)
        .expect("a JSON value can be written as JSON");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// What nodeadm's `upgrade` and `uninstall` may touch: exactly what nodekiln
/// placed where nodeadm would have. containerd is `none`, as nodeadm writes when
/// it finds containerd and runc already installed: it then never asks the
/// package manager to replace or remove them, which could not know a baked
/// archive and must not remove a base's package. iptables is the base's.
fn tracker(inputs: &Inputs<'_>) -> String {
    let baked = |name| is_baked(inputs, name).to_string();
    // Links into a distribution's plugins are placed by nodekiln too.
    let cni = is_present(inputs, ComponentName::CniPlugins).to_string();
    let lines = [
        ("CniPlugins", cni),
        ("Containerd", "none".to_owned()),
        (
            "IamAuthenticator",
            baked(ComponentName::AwsIamAuthenticator),
        ),
        ("IamRolesAnywhere", baked(ComponentName::AwsSigningHelper)),
        (
            "ImageCredentialProvider",
            baked(ComponentName::EcrCredentialProvider),
        ),
        ("Iptables", false.to_string()),
        ("Kubectl", baked(ComponentName::Kubectl)),
        ("Kubelet", baked(ComponentName::Kubelet)),
        ("Ssm", baked(ComponentName::SsmSetupCli)),
    ];
    lines
        .iter()
        .fold("Artifacts:\n".to_owned(), |mut text, (key, value)| {
            writeln!(text, "  {key}: {value}").expect("writing to a string cannot fail");
            text
        })
}
