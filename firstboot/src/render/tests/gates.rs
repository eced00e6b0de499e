//! Every version gate, both flavours, three families of Linux, two of containerd,
//! against expectations that stand as data in `fixtures/`.

use serde_json::{Value, json};

use super::*;

const KUBELET: &str = include_str!("../fixtures/kubelet-config.json");
const FLAGS: &str = include_str!("../fixtures/flags.json");
const IMAGES: &str = include_str!("../fixtures/images.json");

/// One machine and what it is asked to be.
#[derive(Debug, Clone, Copy)]
struct Case {
    minor: u32,
    is_ec2: bool,
    os: &'static str,
    containerd: Version,
    /// Whether the user has settings for the kubelet.
    has_settings: bool,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let containerds = [Version::new(1, 7, 28), Version::new(2, 1, 4)];
        (28..=36).flat_map(move |minor| {
            [false, true].into_iter().flat_map(move |is_ec2| {
                ["ubuntu", "amzn", "rhel"].into_iter().flat_map(move |os| {
                    containerds.into_iter().flat_map(move |containerd| {
                        [false, true].map(|has_settings| Self {
                            minor,
                            is_ec2,
                            os,
                            containerd,
                            has_settings,
                        })
                    })
                })
            })
        })
    }

    fn flavour(&self) -> &'static str {
        if self.is_ec2 { "ec2" } else { "hybrid" }
    }

    fn config(&self) -> NodeConfig {
        let mut config = if self.is_ec2 {
            samples::ec2()
        } else {
            samples::iam_roles_anywhere()
        };
        config.spec.kubelet.flags = vec!["--v=4".into(), "--node-labels=a=b".into()];
        if self.has_settings {
            config.spec.kubelet.config = data(KUBELET)["user"].as_object().unwrap().clone();
        }
        config
    }

    fn facts(&self) -> Facts {
        Facts {
            os: self.os.into(),
            containerd: self.containerd,
            kubelet: Version::new(1, self.minor, 3),
            ..if self.is_ec2 {
                samples::ec2_facts(0, 0)
            } else {
                facts(0, 0)
            }
        }
    }
}

fn data(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The simplest merge there is, for expectations.
fn over(base: &mut Value, more: &Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                over(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more.clone(),
    }
}

#[test]
fn the_kubelets_configuration_for_every_gate() {
    let data = data(KUBELET);
    for case in Case::all() {
        let mut expected = data["both"].clone();
        let mut parts = vec![case.flavour()];
        parts.extend((case.os == "ubuntu").then_some("ubuntu"));
        parts.extend((case.is_ec2 && case.minor >= 33).then_some("ec2-from-33"));
        parts.extend((case.is_ec2 && case.minor >= 34).then_some("ec2-from-34"));
        let is_merged = !case.is_ec2 && case.minor < 29;
        parts.extend((is_merged && case.has_settings).then_some("hybrid-below-29-with-user"));
        for part in parts {
            over(&mut expected, &data[part]);
        }
        let files = by_path(&case.config(), &case.facts());
        let found: Value =
            serde_json::from_str(&files["/etc/kubernetes/kubelet/config.json"]).unwrap();
        assert_eq!(found, expected, "{case:?}");

        let mut drop_in = data["user"].clone();
        over(&mut drop_in, &data["drop-in"]);
        let folder = "/etc/kubernetes/kubelet/config.json.d";
        let (own, other) = if case.is_ec2 {
            ("40-nodeadm.conf", "00-nodeadm.conf")
        } else {
            ("00-nodeadm.conf", "40-nodeadm.conf")
        };
        let found = files
            .get(&format!("{folder}/{own}"))
            .map(|text| serde_json::from_str::<Value>(text).unwrap());
        let has_drop_in = case.has_settings && !is_merged;
        assert_eq!(found, has_drop_in.then_some(drop_in), "{case:?}");
        assert!(
            !files.contains_key(&format!("{folder}/{other}")),
            "{case:?}"
        );
    }
}

#[test]
fn the_kubelets_flags_for_every_gate() {
    for case in Case::all() {
        for nvidia in [false, true] {
            let facts = Facts {
                nvidia_gpu: nvidia,
                ..case.facts()
            };
            let files = by_path(&case.config(), &facts);
            let variables = variables(&files["/etc/eks/kubelet/environment"], case.is_ec2);
            let found: Vec<&str> = variables[0].1.split(' ').collect();
            let mut expected: Vec<String> = data(FLAGS)
                .as_array()
                .unwrap()
                .iter()
                .filter(|row| {
                    let number = |key: &str| row[key].as_u64().map(|it| it as u32);
                    let holds = |key: &str, is: bool| row[key].as_bool().is_none_or(|it| it == is);
                    row["flavour"]
                        .as_str()
                        .is_none_or(|it| it == case.flavour())
                        && number("from").is_none_or(|from| case.minor >= from)
                        && number("until").is_none_or(|until| case.minor <= until)
                        && holds("user", case.has_settings)
                        && holds("nvidia", nvidia)
                })
                .map(|row| row["flag"].as_str().unwrap().to_owned())
                .collect();
            // The generated ones in any order, then the user's in theirs.
            let (generated, users) = found.split_at(expected.len());
            let mut generated = generated.to_vec();
            generated.sort_unstable();
            expected.sort_unstable();
            assert_eq!(generated, expected, "{case:?}");
            assert_eq!(users, ["--v=4", "--node-labels=a=b"], "{case:?}");

            let asks = case.has_settings
                && if case.is_ec2 {
                    case.minor < 30
                } else {
                    case.minor >= 29
                };
            let more: Vec<(&str, &str)> = variables[1..]
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let expected: &[(&str, &str)] = if asks {
                &[("KUBELET_CONFIG_DROPIN_DIR_ALPHA", "on")]
            } else {
                &[]
            };
            assert_eq!(more, expected, "{case:?}");
        }
    }
}

/// The variables of an environment file: all values in quotes, or none.
fn variables(text: &str, is_plain: bool) -> Vec<(String, String)> {
    text.lines()
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            let quoted = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'));
            let value = match quoted {
                Some(value) if !is_plain => value,
                None if is_plain => value,
                _ => panic!("quoted wrongly: {line}"),
            };
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn containerds_configuration_for_every_gate() {
    for case in Case::all() {
        let template = match (case.is_ec2, case.containerd.major) {
            (false, 1) => include_str!("../fixtures/containerd-hybrid-1.toml"),
            (false, _) => include_str!("../fixtures/containerd-hybrid-2.toml"),
            (true, 1) => include_str!("../fixtures/containerd-ec2-1.toml"),
            (true, _) => include_str!("../fixtures/containerd-ec2-2.toml"),
        };
        let expected = if case.minor < 32 {
            template.replace("enable_cdi = true", "enable_cdi = false")
        } else {
            template.to_owned()
        };
        let expected = if case.containerd >= Version::new(2, 1, 0) {
            expected.replace(
                "bin_dir = \"/opt/cni/bin\"",
                "bin_dirs = [\"/opt/cni/bin\"]",
            )
        } else {
            expected
        };
        let files = by_path(&case.config(), &case.facts());
        assert_eq!(files["/etc/containerd/config.toml"], expected, "{case:?}");
    }
}

#[test]
fn the_image_credential_provider_for_every_gate() {
    let data = data(IMAGES);
    for case in Case::all() {
        let mut images = data[case.flavour()].as_array().unwrap().clone();
        if case.is_ec2 && case.minor >= 32 {
            images.extend(data["ec2-from-32"].as_array().unwrap().clone());
        }
        let files = by_path(&case.config(), &case.facts());
        let mut found: Value =
            serde_json::from_str(&files["/etc/eks/image-credential-provider/config.json"]).unwrap();
        let provider = &mut found["providers"][0];
        let environment = provider.as_object_mut().unwrap().shift_remove("env");
        assert_eq!(environment.is_none(), case.is_ec2, "{case:?}");
        assert_eq!(
            found,
            json!({
                "apiVersion": "kubelet.config.k8s.io/v1",
                "kind": "CredentialProviderConfig",
                "providers": [{
                    "name": "ecr-credential-provider",
                    "matchImages": images,
                    "defaultCacheDuration": "12h0m0s",
                    "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
                }],
            }),
            "{case:?}"
        );
    }
}

/// What is written at all, and by which flavour.
#[test]
fn the_files_of_each_flavour() {
    for case in Case::all() {
        let mut expected = vec![
            "/etc/containerd/config.toml",
            "/etc/eks/image-credential-provider/config.json",
            "/etc/eks/kubelet/environment",
            "/etc/kubernetes/kubelet/config.json",
            "/etc/kubernetes/pki/ca.crt",
            "/etc/modules-load.d/containerd.conf",
            "/etc/sysctl.d/99-nodeadm.conf",
            "/var/lib/kubelet/kubeconfig",
        ];
        expected.push(if case.is_ec2 {
            "/etc/containerd/base-runtime-spec.json"
        } else {
            "/etc/aws/hybrid/config"
        });
        if case.has_settings && case.is_ec2 {
            expected.push("/etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf");
        } else if case.has_settings && case.minor >= 29 {
            expected.push("/etc/kubernetes/kubelet/config.json.d/00-nodeadm.conf");
        }
        expected.sort_unstable();
        let files = by_path(&case.config(), &case.facts());
        let found: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(found, expected, "{case:?}");
        assert_eq!(files["/etc/kubernetes/pki/ca.crt"], "certificateAuthority");
        assert_eq!(
            files["/etc/modules-load.d/containerd.conf"],
            "overlay\nbr_netfilter"
        );
        assert_eq!(
            files["/etc/sysctl.d/99-nodeadm.conf"],
            "vm.overcommit_memory=1\nkernel.panic=10\nkernel.panic_on_oops=1\nnet.ipv4.ip_forward=1"
        );
    }
}
