//! containerd's configuration, in the schema of its own major version: 2 for
//! containerd 1.x, 3 for 2.x. (nodeadm's hybrid flavour writes schema 2 for both and
//! leaves the migration to containerd.)
//!
//! `spec.containerd.config` is merged deeply into it for both flavours. nodeadm does
//! so on EC2 nodes; on hybrid nodes it lays the text down as an import, where a
//! section of a plugin replaces all that the main file says of that plugin, the
//! pause image and the cgroup driver too.

use super::node::Node;
use super::quoting::toml_string;
use super::{Error, File, Part, Version, runtime_spec, sandbox_image, soci};
use crate::node_config::toml::{self, Item, Table};

const FIELD: &str = "spec.containerd.config";

/// Pause image of an EC2 node: it lies in the image under this name.
pub(crate) const LOCAL_SANDBOX_IMAGE: &str = "localhost/kubernetes/pause:latest";

/// Names of the plugins that serve the kubelet.
const SCHEMA_2: &str = "io.containerd.grpc.v1.cri";
const SCHEMA_3_PREFIX: &str = "io.containerd.cri.v1.";

pub(super) fn files(node: &Node<'_>) -> Result<Vec<File>, Error> {
    let given = &node.config.spec.containerd.config;
    let refuse = |error: toml::TomlError| Error::field(FIELD, format!("is no TOML: {error}"));
    let given = if given.trim().is_empty() {
        None
    } else {
        Some(toml::parse(given).map_err(refuse)?)
    };
    let schema = schema(node.facts.containerd.major, given.as_ref())?;
    let mut content = template(node, schema);
    if let Some(mut given) = given {
        let mut merged = toml::parse(&content).map_err(refuse)?;
        give_way(&mut merged, &mut given);
        toml::merge(&mut merged, given);
        content = toml::write(&merged);
    }
    Ok(vec![File::public(
        "/etc/containerd/config.toml",
        Part::Containerd,
        content,
    )])
}

/// Which schema to write: containerd's own, unless what is given is of the older one,
/// which containerd 2.x migrates as it reads it.
fn schema(major: u32, given: Option<&Table>) -> Result<u8, Error> {
    let own = if major < 2 { 2 } else { 3 };
    let Some(given) = given else {
        return Ok(own);
    };
    let names = |of: fn(&str) -> bool| match given.get("plugins") {
        Some(Item::Table(plugins)) => plugins.keys().any(|name| of(name)),
        _ => false,
    };
    let names_newer = names(|name| name.starts_with(SCHEMA_3_PREFIX));
    let asked = match given.get("version") {
        None if names_newer => 3,
        None if names(|name| name == SCHEMA_2) => 2,
        None => own,
        Some(Item::Plain(version)) if version == "2" => 2,
        Some(Item::Plain(version)) if version == "3" => 3,
        Some(_) => return Err(Error::field(FIELD, "has a version other than 2 and 3")),
    };
    if asked == 2 && names_newer {
        let problem = "says `version = 2` and names plugins of version 3";
        return Err(Error::field(FIELD, problem));
    }
    if asked > own {
        let problem = "is of version 3, which containerd 1.x does not read";
        return Err(Error::field(FIELD, problem));
    }
    Ok(asked)
}

/// The first version with several folders of network plugins, where the name for one
/// is deprecated (containerd, `docs/cri/config.md`).
const SEVERAL_FOLDERS: Version = Version::new(2, 1, 0);

/// The two names for folders of network plugins, of which containerd takes one.
const FOLDERS: [&str; 2] = ["bin_dir", "bin_dirs"];

/// Takes our folder of network plugins out where the user names one.
fn give_way(ours: &mut Table, given: &mut Table) {
    fn network(table: &mut Table) -> Option<&mut Table> {
        let way = ["plugins", "io.containerd.cri.v1.runtime", "cni"];
        way.iter()
            .try_fold(table, |table, name| match table.get_mut(*name) {
                Some(Item::Table(inner)) => Some(inner),
                _ => None,
            })
    }
    let names_one = |it: &mut Table| FOLDERS.iter().any(|name| it.contains_key(*name));
    if network(given).is_some_and(names_one)
        && let Some(network) = network(ours)
    {
        network.retain(|name, _| !FOLDERS.contains(&name.as_str()));
    }
}

/// A section: its name, and lines of values.
type Section = (String, Vec<String>);

fn template(node: &Node<'_>, schema: u8) -> String {
    let sections = match schema {
        2 => schema_2(node),
        _ => schema_3(node),
    };
    let mut text = format!(
        "version = {schema}\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n"
    );
    // The hybrid flavour's layout; the EC2 flavour has neither room nor imports.
    let (outer, inner) = if node.is_ec2() {
        ("", "")
    } else {
        ("  ", "    ")
    };
    if !node.is_ec2() {
        text.push_str(
            "# Files of the image's own are imported from here. A plugin's section in one\n\
             # of them replaces the whole section of that plugin below: settings of it that\n\
             # are to stay must be repeated there.\n\
             imports = [\"/etc/containerd/config.d/*.toml\"]\n",
        );
    }
    text.push_str("\n[grpc]\n");
    text.push_str(&format!(
        "{outer}address = \"/run/containerd/containerd.sock\"\n"
    ));
    if !node.is_ec2() {
        text.push_str("\n[plugins]\n");
    }
    for (name, lines) in sections {
        if node.is_ec2() {
            text.push('\n');
        }
        text.push_str(&format!("{outer}[{name}]\n"));
        for line in lines {
            text.push_str(&format!("{inner}{line}\n"));
        }
    }
    text
}

/// The pause image, quoted.
fn sandbox(node: &Node<'_>) -> String {
    if node.is_ec2() {
        let baked = node.facts.sandbox_image.as_deref();
        return toml_string(baked.unwrap_or(LOCAL_SANDBOX_IMAGE));
    }
    toml_string(&sandbox_image(node.region, node.facts))
}

/// Name of the runtime and its program.
fn runtime(node: &Node<'_>) -> (&'static str, &'static str) {
    if node.is_ec2() && node.facts.nvidia_runtime {
        ("nvidia", "/usr/bin/nvidia-container-runtime")
    } else {
        ("runc", "/usr/sbin/runc")
    }
}

/// Whether devices may be asked for by name (CDI); only EC2 nodes say so.
fn device_interface(node: &Node<'_>) -> Vec<String> {
    let is_on = node.facts.kubelet >= Version::new(1, 32, 0);
    if node.is_ec2() {
        vec![format!("enable_cdi = {is_on}")]
    } else {
        Vec::new()
    }
}

/// Layers are unpacked by the SOCI snapshotter, if it is used.
fn snapshotter(node: &Node<'_>) -> Vec<String> {
    if soci::is_active(node) {
        vec![
            "snapshotter = \"soci\"".into(),
            "disable_snapshot_annotations = false".into(),
        ]
    } else {
        Vec::new()
    }
}

/// The sections that are below the same names in both schemas; `folders` says where
/// network plugins are.
fn common(node: &Node<'_>, plugin: &str, folders: &str) -> Vec<Section> {
    let (name, program) = runtime(node);
    let runtime = format!("{plugin}.containerd.runtimes.{name}");
    let mut settings = vec!["runtime_type = \"io.containerd.runc.v2\"".to_owned()];
    let mut options = Vec::new();
    if node.is_ec2() {
        settings.push(format!("base_runtime_spec = \"{}\"", runtime_spec::PATH));
        options.push(format!("BinaryName = \"{program}\""));
    }
    options.push("SystemdCgroup = true".into());
    let mut sections = vec![
        (runtime.clone(), settings),
        (format!("{runtime}.options"), options),
        (
            format!("{plugin}.cni"),
            vec![folders.into(), "conf_dir = \"/etc/cni/net.d\"".into()],
        ),
    ];
    if soci::is_active(node) {
        sections.push((
            "proxy_plugins.soci".into(),
            vec![
                "type = \"snapshot\"".into(),
                format!("address = \"{}\"", soci::SOCKET),
            ],
        ));
        sections.push((
            "proxy_plugins.soci.exports".into(),
            vec!["root = \"/var/lib/soci-snapshotter-grpc\"".into()],
        ));
    }
    sections
}

const FOLDER: &str = "bin_dir = \"/opt/cni/bin\"";

const REGISTRIES: &str = "config_path = \"/etc/containerd/certs.d:/etc/docker/certs.d\"";

fn schema_2(node: &Node<'_>) -> Vec<Section> {
    let plugin = format!("plugins.\"{SCHEMA_2}\"");
    let (name, _) = runtime(node);
    let mut containerd = vec![
        format!("default_runtime_name = \"{name}\""),
        "discard_unpacked_layers = true".into(),
    ];
    containerd.extend(snapshotter(node));
    let mut service = vec![format!("sandbox_image = {}", sandbox(node))];
    service.extend(device_interface(node));
    let mut sections = vec![
        (format!("{plugin}.containerd"), containerd),
        (plugin.clone(), service),
        (format!("{plugin}.registry"), vec![REGISTRIES.into()]),
    ];
    sections.extend(common(node, &plugin, FOLDER));
    sections
}

fn schema_3(node: &Node<'_>) -> Vec<Section> {
    let images = format!("plugins.\"{SCHEMA_3_PREFIX}images\"");
    let plugin = format!("plugins.\"{SCHEMA_3_PREFIX}runtime\"");
    let (name, _) = runtime(node);
    let mut layers = vec!["discard_unpacked_layers = true".to_owned()];
    layers.extend(snapshotter(node));
    let mut sections = vec![
        (images.clone(), layers),
        (
            format!("{images}.pinned_images"),
            vec![format!("sandbox = {}", sandbox(node))],
        ),
        (format!("{images}.registry"), vec![REGISTRIES.into()]),
    ];
    let devices = device_interface(node);
    if !devices.is_empty() {
        sections.push((plugin.clone(), devices));
    }
    sections.push((
        format!("{plugin}.containerd"),
        vec![format!("default_runtime_name = \"{name}\"")],
    ));
    let folders = if node.facts.containerd >= SEVERAL_FOLDERS {
        "bin_dirs = [\"/opt/cni/bin\"]"
    } else {
        FOLDER
    };
    sections.extend(common(node, &plugin, folders));
    sections
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::node_config::model::NodeConfig;
    use crate::render::Facts;

    fn text(config: &NodeConfig, facts: &Facts) -> Result<String, Error> {
        let node = Node::new(config, facts)?;
        let mut files = files(&node)?;
        assert_eq!(files.len(), 1);
        Ok(String::from_utf8(files.remove(0).content).unwrap())
    }

    fn with(mut config: NodeConfig, given: &str) -> NodeConfig {
        config.spec.containerd.config = given.into();
        config
    }

    /// A value by its way; names with dots in it are written with slashes.
    fn at<'a>(table: &'a Table, way: &str) -> Option<&'a Item> {
        let (first, rest) = way.split_once(' ').unwrap_or((way, ""));
        match table.get(first)? {
            Item::Table(inner) if !rest.is_empty() => at(inner, rest),
            item if rest.is_empty() => Some(item),
            _ => None,
        }
    }

    #[test]
    fn the_schema_is_the_ones_of_containerd_or_of_what_is_given() {
        for (major, given, expected) in [
            (1, "", Some(2)),
            (2, "", Some(3)),
            (1, "[grpc]\n", Some(2)),
            (2, "[grpc]\n", Some(3)),
            (2, "version = 3\n[grpc]\n", Some(3)),
            (2, "version = 2\n[grpc]\n", Some(2)),
            (1, "version = 2\n", Some(2)),
            (2, "[plugins.'io.containerd.grpc.v1.cri']\n", Some(2)),
            (
                2,
                "version = 3\n[plugins.'io.containerd.grpc.v1.cri']\n",
                Some(3),
            ),
            (2, "[plugins.'io.containerd.cri.v1.images']\n", Some(3)),
            (
                2,
                "[plugins.'io.containerd.cri.v1.runtime']\n[plugins.'io.containerd.grpc.v1.cri']\n",
                Some(3),
            ),
            (1, "[plugins.'io.containerd.cri.v1.images']\n", None),
            (1, "version = 3\n", None),
            (
                2,
                "version = 2\n[plugins.'io.containerd.cri.v1.images']\n",
                None,
            ),
            (2, "version = 1\n", None),
            (2, "version = 4\n", None),
            (2, "version = 'x'\n", None),
        ] {
            let given = (!given.is_empty()).then(|| toml::parse(given).unwrap());
            let found = schema(major, given.as_ref());
            assert_eq!(found.ok(), expected, "{major} {given:?}");
        }
    }

    /// What a user changes in a plugin changes that alone.
    #[test]
    fn nothing_of_a_plugin_is_lost_by_what_is_given() {
        for (config, facts) in [
            (samples::iam_roles_anywhere(), samples::facts(34, 1)),
            (samples::ec2(), samples::ec2_facts(34, 1)),
        ] {
            let given = "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = 'x'\n\
                         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = '/b'\n[debug]\nlevel = \"debug\"\n";
            let before = toml::parse(&text(&config, &facts).unwrap()).unwrap();
            let merged = toml::parse(&text(&with(config, given), &facts).unwrap()).unwrap();
            let plugin = "plugins io.containerd.grpc.v1.cri";
            for (way, expected) in [
                ("containerd snapshotter", "x"),
                ("cni bin_dir", "/b"),
                ("cni conf_dir", "/etc/cni/net.d"),
                ("containerd default_runtime_name", "runc"),
            ] {
                let found = at(&merged, &format!("{plugin} {way}"));
                assert_eq!(found, Some(&Item::Text(expected.into())), "{way}");
            }
            for way in ["sandbox_image", "containerd runtimes", "registry"] {
                let way = format!("{plugin} {way}");
                assert_eq!(at(&merged, &way), at(&before, &way), "{way}");
                assert!(at(&before, &way).is_some(), "{way}");
            }
            assert_eq!(
                at(&merged, "debug level"),
                Some(&Item::Text("debug".into()))
            );
        }
    }

    /// containerd refuses a file that says both.
    #[test]
    fn folders_of_network_plugins_have_one_name() {
        let cni = "plugins io.containerd.cri.v1.runtime cni";
        let folders = |version, given: &str| {
            let facts = Facts {
                containerd: version,
                ..samples::facts(34, 2)
            };
            let config = with(samples::iam_roles_anywhere(), given);
            let table = toml::parse(&text(&config, &facts).unwrap()).unwrap();
            let Some(Item::Table(cni)) = at(&table, cni) else {
                panic!("no {cni}")
            };
            assert!(cni.contains_key("conf_dir"));
            FOLDERS.map(|name| cni.get(name).cloned())
        };
        let one = |path: &str| Some(Item::Text(path.into()));
        let several = |path: &str| Some(Item::Array(vec![Item::Text(path.into())]));
        let (old, new) = (Version::new(2, 0, 9), Version::new(2, 1, 0));
        assert_eq!(folders(old, ""), [one("/opt/cni/bin"), None]);
        assert_eq!(folders(new, ""), [None, several("/opt/cni/bin")]);
        let header = "[plugins.'io.containerd.cri.v1.runtime'.cni]\n";
        for version in [old, new] {
            let given = format!("{header}bin_dir = '/b'\n");
            assert_eq!(folders(version, &given), [one("/b"), None]);
            let given = format!("{header}bin_dirs = ['/b']\n");
            assert_eq!(folders(version, &given), [None, several("/b")]);
        }
        let given = format!("{header}max_conf_num = 2\n");
        assert_eq!(folders(new, &given), [None, several("/opt/cni/bin")]);
    }

    #[test]
    fn what_is_no_toml_is_refused_without_being_shown() {
        let config = with(samples::ec2(), "[a]\nx = hunter2\n");
        let error = text(&config, &samples::ec2_facts(34, 2)).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("spec.containerd.config is no TOML: ")
                && said.ends_with(" (line 2, column 5)"),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn odd_image_names_stay_themselves() {
        let facts = Facts {
            sandbox_image: Some("a\"b\\c".into()),
            ..samples::ec2_facts(34, 2)
        };
        let table = toml::parse(&text(&samples::ec2(), &facts).unwrap()).unwrap();
        assert_eq!(
            at(
                &table,
                "plugins io.containerd.cri.v1.images pinned_images sandbox"
            ),
            Some(&Item::Text("a\"b\\c".into()))
        );
    }
}
