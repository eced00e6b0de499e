//! Where the services of AWS are.

use crate::system::Variables;

/// A service that first boot asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Instances and their types.
    Ec2,
    /// The image registry's API.
    Ecr,
    /// Clusters.
    Eks,
    /// Credentials for certificates.
    RolesAnywhere,
    /// Managed instances.
    Ssm,
    /// Who one is.
    Sts,
}

impl Service {
    /// Its name in signatures, and in endpoints unless that differs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ecr => "ecr",
            Self::Eks => "eks",
            Self::RolesAnywhere => "rolesanywhere",
            Self::Ssm => "ssm",
            Self::Sts => "sts",
        }
    }

    fn host_prefix(self) -> &'static str {
        match self {
            Self::Ecr => "api.ecr",
            other => other.name(),
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Ec2 => "AWS_ENDPOINT_URL_EC2",
            Self::Ecr => "AWS_ENDPOINT_URL_ECR",
            Self::Eks => "AWS_ENDPOINT_URL_EKS",
            Self::RolesAnywhere => "AWS_ENDPOINT_URL_ROLESANYWHERE",
            Self::Ssm => "AWS_ENDPOINT_URL_SSM",
            Self::Sts => "AWS_ENDPOINT_URL_STS",
        }
    }
}

/// A part of AWS with names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// As in ARNs, such as `aws-cn`.
    pub name: &'static str,
    /// What the names of its services end in.
    pub suffix: &'static str,
    /// The same for names that have IPv6 addresses too.
    pub dual_stack_suffix: &'static str,
}

/// Partitions by the beginning of their regions' names (the SDKs' `partitions.json`);
/// whatever is not listed is in the first.
const PARTITIONS: [(&str, Partition); 8] = [
    ("", partition("aws", "amazonaws.com", "api.aws")),
    (
        "cn-",
        partition("aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ),
    (
        "us-gov-",
        partition("aws-us-gov", "amazonaws.com", "api.aws"),
    ),
    (
        "us-iso-",
        partition("aws-iso", "c2s.ic.gov", "api.aws.ic.gov"),
    ),
    (
        "us-isob-",
        partition("aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud"),
    ),
    (
        "eu-isoe-",
        partition("aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ),
    (
        "us-isof-",
        partition("aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ),
    (
        "eusc-",
        partition("aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu"),
    ),
];

const fn partition(
    name: &'static str,
    suffix: &'static str,
    dual_stack_suffix: &'static str,
) -> Partition {
    Partition {
        name,
        suffix,
        dual_stack_suffix,
    }
}

/// The partition of a region.
pub fn partition_of(region: &str) -> Partition {
    let found = PARTITIONS
        .iter()
        .skip(1)
        .find(|(beginning, _)| region.starts_with(beginning));
    found.unwrap_or(&PARTITIONS[0]).1
}

/// The URL of a service without a path or a slash at its end: from
/// `AWS_ENDPOINT_URL_<SERVICE>`, from `AWS_ENDPOINT_URL`, or the region's own, for
/// FIPS with `AWS_USE_FIPS_ENDPOINT=true` and with IPv6 addresses too with
/// `AWS_USE_DUALSTACK_ENDPOINT=true`.
pub fn endpoint(service: Service, region: &str, variables: &Variables) -> String {
    if let Some(given) = variables.first(&[service.variable(), "AWS_ENDPOINT_URL"]) {
        return given.trim_end_matches('/').to_owned();
    }
    let fips = variables.is_true("AWS_USE_FIPS_ENDPOINT");
    let dual = variables.is_true("AWS_USE_DUALSTACK_ENDPOINT");
    let partition = partition_of(region);
    // The registry has names of another form (ECR user guide, "Endpoints").
    if service == Service::Ecr && dual {
        let fips = if fips { "-fips" } else { "" };
        let suffix = partition.dual_stack_suffix;
        return format!("https://ecr{fips}.{region}.{suffix}");
    }
    // In GovCloud the usual names of most services are those for FIPS, and EKS has
    // names of another form elsewhere (the SDKs' endpoint rules).
    let is_gov = partition.name == "aws-us-gov";
    let prefix = match service {
        _ if !fips => service.host_prefix().to_owned(),
        Service::Eks | Service::Ec2 | Service::Sts | Service::Ssm if is_gov => {
            service.name().to_owned()
        }
        Service::Eks => "fips.eks".to_owned(),
        other => format!("{}-fips", other.name()),
    };
    format!("https://{prefix}.{region}.{}", suffix(partition, dual))
}

fn suffix(partition: Partition, dual: bool) -> &'static str {
    if dual {
        partition.dual_stack_suffix
    } else {
        partition.suffix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_by_region_and_wish() {
        let plain = Variables::default();
        let fips = plain.clone().with("AWS_USE_FIPS_ENDPOINT", "true");
        let dual = plain.clone().with("AWS_USE_DUALSTACK_ENDPOINT", "true");
        for (service, region, variables, expected) in [
            (
                Service::Eks,
                "eu-central-1",
                &plain,
                "eks.eu-central-1.amazonaws.com",
            ),
            (
                Service::Eks,
                "cn-north-1",
                &plain,
                "eks.cn-north-1.amazonaws.com.cn",
            ),
            (
                Service::Sts,
                "us-iso-east-1",
                &plain,
                "sts.us-iso-east-1.c2s.ic.gov",
            ),
            (
                Service::Ssm,
                "us-isob-east-1",
                &plain,
                "ssm.us-isob-east-1.sc2s.sgov.gov",
            ),
            (
                Service::Ec2,
                "eusc-de-east-1",
                &plain,
                "ec2.eusc-de-east-1.amazonaws.eu",
            ),
            (
                Service::RolesAnywhere,
                "us-gov-west-1",
                &plain,
                "rolesanywhere.us-gov-west-1.amazonaws.com",
            ),
            (
                Service::Ecr,
                "eu-west-1",
                &plain,
                "api.ecr.eu-west-1.amazonaws.com",
            ),
            (
                Service::Ecr,
                "us-east-1",
                &fips,
                "ecr-fips.us-east-1.amazonaws.com",
            ),
            (
                Service::Eks,
                "us-east-1",
                &fips,
                "fips.eks.us-east-1.amazonaws.com",
            ),
            (
                Service::Ec2,
                "us-east-1",
                &fips,
                "ec2-fips.us-east-1.amazonaws.com",
            ),
            (
                Service::Sts,
                "us-gov-west-1",
                &fips,
                "sts.us-gov-west-1.amazonaws.com",
            ),
            (Service::Ec2, "us-east-1", &dual, "ec2.us-east-1.api.aws"),
            (
                Service::Eks,
                "cn-north-1",
                &dual,
                "eks.cn-north-1.api.amazonwebservices.com.cn",
            ),
        ] {
            assert_eq!(
                endpoint(service, region, variables),
                format!("https://{expected}")
            );
        }
        assert_eq!(partition_of("us-isof-south-1").name, "aws-iso-f");
    }

    #[test]
    fn endpoints_can_be_given_for_one_service_and_for_all() {
        let variables = Variables::default()
            .with("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")
            .with("AWS_ENDPOINT_URL_EKS", "http://127.0.0.1:2");
        assert_eq!(
            endpoint(Service::Eks, "x", &variables),
            "http://127.0.0.1:2"
        );
        assert_eq!(
            endpoint(Service::Sts, "x", &variables),
            "http://127.0.0.1:1"
        );
    }
}
