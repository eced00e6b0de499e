//! What EC2's instance types offer to pods: a table that is made by the program in
//! `firstboot/data/`.

use super::InterfaceLimits;

/// A line for each family: its name, then `size=interfaces/addresses` for each of
/// its types; all sorted.
const TABLE: &str = include_str!("../../data/instance-types.txt");

/// Limits of the default network card of a type such as `m5.large`.
pub(crate) fn limits(instance_type: &str) -> Option<InterfaceLimits> {
    let (family, size) = instance_type.split_once('.')?;
    let mut types = TABLE
        .lines()
        .map(|line| line.split(' '))
        .find_map(|mut fields| (fields.next() == Some(family)).then_some(fields))?;
    let limits = types.find_map(|field| {
        let (name, limits) = field.split_once('=')?;
        (name == size).then_some(limits)
    })?;
    let (interfaces, addresses) = limits.split_once('/')?;
    Some(InterfaceLimits {
        interfaces: interfaces.parse().ok()?,
        ipv4_per_interface: addresses.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_table_is_found_and_makes_sense() {
        let lines: Vec<&str> = TABLE
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(lines.is_sorted());
        let mut types = 0;
        for line in lines {
            let mut fields = line.split(' ');
            let family = fields.next().unwrap();
            for field in fields {
                let size = field.split_once('=').unwrap().0;
                let limits = limits(&format!("{family}.{size}")).unwrap();
                assert!((1..=32).contains(&limits.interfaces), "{family}.{size}");
                assert!(
                    (2..=100).contains(&limits.ipv4_per_interface),
                    "{family}.{size}"
                );
                types += 1;
            }
        }
        assert!(types > 1200, "{types}");
    }

    #[test]
    fn what_is_not_in_the_table_is_unknown() {
        for name in [
            "",
            "m5",
            "m5.",
            ".large",
            "m5.huge",
            "m999.large",
            "#.x",
            "m5.large=3/10",
        ] {
            assert_eq!(limits(name), None, "{name}");
        }
    }
}
