//! Where the pause image comes from: accounts and regions of ECR as data
//! (`aws/eks-hybrid`, `internal/aws/ecr`; the user guide's list of image registry
//! accounts for the commercial regions).

use super::Facts;
use crate::aws::partition_of;

/// Account that serves most commercial regions.
const COMMERCIAL: &str = "602401143452";

/// Regions with a registry of their own, and its account.
const REGISTRIES: &[(&str, &str)] = &[
    ("af-south-1", "877085696533"),
    ("ap-east-1", "800184023465"),
    ("ap-northeast-1", COMMERCIAL),
    ("ap-northeast-2", COMMERCIAL),
    ("ap-northeast-3", COMMERCIAL),
    ("ap-south-1", COMMERCIAL),
    ("ap-south-2", "900889452093"),
    ("ap-southeast-1", COMMERCIAL),
    ("ap-southeast-2", COMMERCIAL),
    ("ap-southeast-3", "296578399912"),
    ("ap-southeast-4", "491585149902"),
    ("ap-southeast-5", "151610086707"),
    ("ca-central-1", COMMERCIAL),
    ("ca-west-1", "761377655185"),
    ("cn-north-1", "918309763551"),
    ("cn-northwest-1", "961992271922"),
    ("eu-central-1", COMMERCIAL),
    ("eu-central-2", "900612956339"),
    ("eu-isoe-west-1", "249663109785"),
    ("eu-north-1", COMMERCIAL),
    ("eu-south-1", "590381155156"),
    ("eu-south-2", "455263428931"),
    ("eu-west-1", COMMERCIAL),
    ("eu-west-2", COMMERCIAL),
    ("eu-west-3", COMMERCIAL),
    ("il-central-1", "066635153087"),
    ("me-central-1", "759879836304"),
    ("me-south-1", "558608220178"),
    ("sa-east-1", COMMERCIAL),
    ("us-east-1", COMMERCIAL),
    ("us-east-2", COMMERCIAL),
    ("us-gov-east-1", "151742754352"),
    ("us-gov-west-1", "013241004608"),
    ("us-iso-east-1", "725322719131"),
    ("us-iso-west-1", "608367168043"),
    ("us-isob-east-1", "187977181151"),
    ("us-isof-south-1", "676585237158"),
    ("us-west-1", COMMERCIAL),
    ("us-west-2", COMMERCIAL),
];

/// Region that serves those of its partition that have no registry, by prefix.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("us-gov-", "us-gov-west-1"),
    ("cn-", "cn-northwest-1"),
    ("us-iso-", "us-iso-east-1"),
    ("us-isob-", "us-isob-east-1"),
    ("us-isof-", "us-isof-south-1"),
    ("eu-isoe-", "eu-isoe-west-1"),
];

/// Regions in which ECR has FIPS endpoints.
const FIPS_REGIONS: &[&str] = &[
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

/// The domain in which the services of a region's partition have their names.
pub fn dns_suffix(region: &str) -> &'static str {
    partition_of(region).suffix
}

/// Reference of the pause image: the one in this machine's image, else the one in
/// the region's registry.
pub fn sandbox_image(region: &str, facts: &Facts) -> String {
    if let Some(image) = &facts.sandbox_image {
        return image.clone();
    }
    let (region, account) = registry(region);
    let service = if facts.fips && FIPS_REGIONS.contains(&region) {
        "ecr-fips"
    } else {
        "ecr"
    };
    let suffix = dns_suffix(region);
    format!("{account}.dkr.{service}.{region}.{suffix}/eks/pause:3.5")
}

fn registry(region: &str) -> (&str, &'static str) {
    let account = |region: &str| {
        REGISTRIES
            .iter()
            .find(|(name, _)| *name == region)
            .map(|(_, account)| *account)
    };
    if let Some(account) = account(region) {
        return (region, account);
    }
    let neighbour = by_prefix(NEIGHBOURS, region).unwrap_or("us-west-2");
    (neighbour, account(neighbour).unwrap_or(COMMERCIAL))
}

fn by_prefix(table: &[(&str, &'static str)], region: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix))
        .map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_by_region() {
        let facts = Facts::default();
        let fips = Facts {
            fips: true,
            ..Facts::default()
        };
        let table = [
            (
                &facts,
                "us-west-2",
                "602401143452.dkr.ecr.us-west-2.amazonaws.com",
            ),
            (
                &facts,
                "eu-central-1",
                "602401143452.dkr.ecr.eu-central-1.amazonaws.com",
            ),
            (
                &facts,
                "eu-south-1",
                "590381155156.dkr.ecr.eu-south-1.amazonaws.com",
            ),
            (
                &facts,
                "mx-central-1",
                "602401143452.dkr.ecr.us-west-2.amazonaws.com",
            ),
            (
                &facts,
                "us-gov-north-9",
                "013241004608.dkr.ecr.us-gov-west-1.amazonaws.com",
            ),
            (
                &facts,
                "cn-north-1",
                "918309763551.dkr.ecr.cn-north-1.amazonaws.com.cn",
            ),
            (
                &facts,
                "cn-south-9",
                "961992271922.dkr.ecr.cn-northwest-1.amazonaws.com.cn",
            ),
            (
                &facts,
                "us-iso-west-1",
                "608367168043.dkr.ecr.us-iso-west-1.c2s.ic.gov",
            ),
            (
                &facts,
                "us-isob-west-1",
                "187977181151.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
            ),
            (
                &facts,
                "us-isof-east-1",
                "676585237158.dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
            ),
            (
                &facts,
                "eu-isoe-west-1",
                "249663109785.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
            ),
            (
                &facts,
                "eu-isoe-east-9",
                "249663109785.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
            ),
            (
                &facts,
                "ap-southeast-5",
                "151610086707.dkr.ecr.ap-southeast-5.amazonaws.com",
            ),
            (
                &fips,
                "us-east-1",
                "602401143452.dkr.ecr-fips.us-east-1.amazonaws.com",
            ),
            (
                &fips,
                "eu-west-1",
                "602401143452.dkr.ecr.eu-west-1.amazonaws.com",
            ),
        ];
        for (facts, region, host) in table {
            assert_eq!(
                sandbox_image(region, facts),
                format!("{host}/eks/pause:3.5"),
                "{region}"
            );
        }
    }

    #[test]
    fn domains_by_partition() {
        for (region, domain) in [
            ("eu-central-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
        ] {
            assert_eq!(dns_suffix(region), domain, "{region}");
        }
    }

    #[test]
    fn a_baked_image_needs_no_registry() {
        let facts = Facts {
            sandbox_image: Some("localhost/pause:3.10".into()),
            ..Facts::default()
        };
        assert_eq!(sandbox_image("us-west-2", &facts), "localhost/pause:3.10");
    }

    #[test]
    fn the_table_can_be_searched_and_every_neighbour_is_in_it() {
        assert!(REGISTRIES.is_sorted());
        for (_, region) in NEIGHBOURS {
            assert!(
                REGISTRIES.iter().any(|(name, _)| name == region),
                "{region}"
            );
        }
    }
}
