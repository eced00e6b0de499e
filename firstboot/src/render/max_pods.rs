//! How many pods an EC2 node takes: with the Amazon VPC CNI each has an address of
//! one of the instance's interfaces.

use super::expression::{self, Variables};
use super::{Instance, InterfaceLimits, instance_types};

/// What the kubelet itself takes when nobody says anything.
const DEFAULT: u32 = 110;

/// How many pods a node takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaximumPods {
    /// The number.
    pub number: u32,
    /// What a person should know about how it came about.
    pub warning: Option<String>,
}

/// The number for an instance, by `spec.kubelet.maxPodsExpression` if that gives
/// one.
pub(super) fn of(expression: &str, instance: &Instance) -> MaximumPods {
    let limits = instance_types::limits(&instance.instance_type).or(instance.interface_limits);
    let standard = limits.map_or(DEFAULT, standard);
    if expression.trim().is_empty() {
        let warning = limits.is_none().then(|| {
            format!(
                "the limits of the instance type {:?} are not known: {DEFAULT} pods at most",
                instance.instance_type
            )
        });
        return MaximumPods {
            number: standard,
            warning,
        };
    }
    let refused = |why: &str| MaximumPods {
        number: standard,
        warning: Some(format!(
            "spec.kubelet.maxPodsExpression is not used: {why}; {standard} pods at most"
        )),
    };
    let Some(limits) = limits else {
        return refused("the limits of the instance type are not known");
    };
    let variables = Variables {
        default_enis: limits.interfaces.into(),
        ips_per_eni: limits.ipv4_per_interface.into(),
        max_pods: standard.into(),
    };
    match expression::evaluate(expression, &variables) {
        Ok(number @ 1..=0x7fff_ffff) => MaximumPods {
            number: number as u32,
            warning: None,
        },
        Ok(number) => refused(&format!("it gives {number}, not 1 to 2147483647")),
        Err(error) => refused(&error.to_string()),
    }
}

/// One address of each interface is the interface's own; kube-proxy and the CNI
/// itself need none.
fn standard(limits: InterfaceLimits) -> u32 {
    limits
        .ipv4_per_interface
        .saturating_sub(1)
        .saturating_mul(limits.interfaces)
        .saturating_add(2)
        .min(i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(instance_type: &str) -> Instance {
        Instance {
            instance_type: instance_type.into(),
            ..Instance::default()
        }
    }

    /// As documented in the user guide of EKS.
    #[test]
    fn well_known_types_take_the_documented_number() {
        for (name, number) in [
            ("t3.nano", 4),
            ("t3.small", 11),
            ("t3.medium", 17),
            ("t3.large", 35),
            ("m5.large", 29),
            ("m5.xlarge", 58),
            ("m5.2xlarge", 58),
            ("m5.4xlarge", 234),
            ("m5.24xlarge", 737),
            ("c5.18xlarge", 737),
            ("c5.9xlarge", 234),
            ("r5.large", 29),
            ("m6g.medium", 8),
            ("p4d.24xlarge", 737),
            ("p5.48xlarge", 100),
            ("g5.xlarge", 58),
        ] {
            let pods = of("", &instance(name));
            assert_eq!((pods.number, pods.warning), (number, None), "{name}");
        }
    }

    #[test]
    fn a_type_that_is_newer_than_the_table_takes_what_ec2_says() {
        let mut new = instance("z99.large");
        assert_eq!(of("", &new).number, 110);
        assert!(of("", &new).warning.unwrap().contains("z99.large"));
        assert_eq!(of("1", &new).number, 110);
        new.interface_limits = Some(InterfaceLimits {
            interfaces: 6,
            ipv4_per_interface: 12,
        });
        assert_eq!(
            of("", &new),
            MaximumPods {
                number: 68,
                warning: None
            }
        );
        new.interface_limits = Some(InterfaceLimits {
            interfaces: u32::MAX,
            ipv4_per_interface: u32::MAX,
        });
        assert_eq!(of("", &new).number, i32::MAX as u32);
        new.interface_limits = Some(InterfaceLimits {
            interfaces: 0,
            ipv4_per_interface: 0,
        });
        assert_eq!(of("", &new).number, 2);
    }

    #[test]
    fn an_expression_replaces_the_number() {
        for (expression, number) in [
            ("((default_enis - 1) * (ips_per_eni - 1)) + 2", 12),
            ("(default_enis * ((ips_per_eni - 1) * 16)) + 2", 242),
            ("max_pods < 30 ? max_pods : 30", 17),
            ("417", 417),
            ("2147483647", 2_147_483_647),
        ] {
            let pods = of(expression, &instance("t3.medium"));
            assert_eq!((pods.number, pods.warning), (number, None), "{expression}");
        }
    }

    #[test]
    fn an_expression_that_gives_no_number_of_pods_is_warned_about() {
        for (expression, why) in [
            ("max_pods - 17", "it gives 0"),
            ("0 - 1", "it gives -1"),
            ("2147483648", "it gives 2147483648"),
            ("true", "boolean"),
            ("99 - fake", "unknown name"),
            ("1 / 0", "divi"),
        ] {
            let pods = of(expression, &instance("t3.medium"));
            assert_eq!(pods.number, 17, "{expression}");
            let warning = pods.warning.unwrap();
            assert!(warning.contains(why), "{expression}: {warning}");
        }
    }
}
