//! The fields of a NodeConfig as data: what each may hold and how two documents
//! merge. Reading, merging and 'did you mean' all follow this one table.

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Named fields.
    Fields(&'static [(&'static str, Shape)]),
    /// Text; a number or boolean is taken in its original spelling.
    Text,
    /// A boolean. A later `false` does not turn off an earlier `true`: nodeadm's
    /// merge cannot tell it from a field that was left out.
    Switch,
    /// A list of texts; a later one that is not empty replaces.
    List,
    /// A list of texts; a later one is appended.
    Appended,
    /// Values by free names, merged name by name.
    Named(&'static Shape),
    /// A boolean by name: a later `false` does count.
    Flag,
    /// A text by name: a later empty one does count.
    Variable,
    /// Free JSON, merged deeply.
    Document,
    /// Free JSON that nobody reads.
    Ignored,
}

use Shape::{Appended, Document, Fields, Flag, Ignored, List, Named, Switch, Text, Variable};

/// The whole of a NodeConfig.
pub(super) const NODE_CONFIG: Shape = Fields(&[
    ("apiVersion", Text),
    ("kind", Text),
    ("metadata", Ignored),
    (
        "spec",
        Fields(&[
            (
                "cluster",
                Fields(&[
                    ("name", Text),
                    ("region", Text),
                    ("apiServerEndpoint", Text),
                    ("certificateAuthority", Text),
                    ("cidr", Text),
                    ("enableOutpost", Switch),
                    ("id", Text),
                ]),
            ),
            (
                "kubelet",
                Fields(&[
                    ("config", Document),
                    ("flags", Appended),
                    ("maxPodsExpression", Text),
                ]),
            ),
            (
                "containerd",
                Fields(&[("config", Text), ("baseRuntimeSpec", Document)]),
            ),
            (
                "instance",
                Fields(&[
                    (
                        "localStorage",
                        Fields(&[
                            ("strategy", Text),
                            ("mountPath", Text),
                            ("disabledMounts", List),
                        ]),
                    ),
                    ("environment", Named(&Named(&Variable))),
                    (
                        "network",
                        Fields(&[("nameservers", List), ("domains", List)]),
                    ),
                ]),
            ),
            ("featureGates", Named(&Flag)),
            (
                "hybrid",
                Fields(&[
                    ("enableCredentialsFile", Switch),
                    (
                        "iamRolesAnywhere",
                        Fields(&[
                            ("nodeName", Text),
                            ("trustAnchorArn", Text),
                            ("profileArn", Text),
                            ("roleArn", Text),
                            ("awsConfigPath", Text),
                            ("certificatePath", Text),
                            ("privateKeyPath", Text),
                        ]),
                    ),
                    (
                        "ssm",
                        Fields(&[("activationCode", Text), ("activationId", Text)]),
                    ),
                ]),
            ),
        ]),
    ),
]);

/// The paths below which nothing that a user wrote is ever repeated.
pub(super) const SECRET: &str = "spec.hybrid.ssm";
