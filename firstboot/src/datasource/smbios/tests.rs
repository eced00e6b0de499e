use super::super::pretended::Fake;
use super::*;

fn machine(fields: &[(&str, &str)]) -> Fake {
    fields
        .iter()
        .fold(Fake::default(), |machine, (name, value)| {
            machine.smbios(name, value)
        })
}

#[test]
fn instances_of_every_generation_are_known() {
    for fields in [
        &[("sys_vendor", "Amazon EC2")][..],
        &[("bios_vendor", "Amazon EC2")],
        &[("board_asset_tag", "i-0123456789abcdef0")],
        &[("board_asset_tag", "i-01234567")],
        &[
            ("product_uuid", "EC2E1916-9099-7CAF-FD21-012345ABCDEF"),
            ("product_serial", "ec2e1916-9099-7caf-fd21-012345abcdef"),
        ],
        &[
            ("product_uuid", "45E12AEC-DCD1-B213-94ED-012345ABCDEF"),
            ("product_serial", "ec2ae145-d1dc-13b2-94ed-012345abcdef"),
        ],
    ] {
        assert!(is_ec2(&machine(fields)), "{fields:?}");
    }
    let xen = Fake::default().with(HYPERVISOR_UUID, "ec2e1916-9099-7caf-fd21-012345abcdef\n");
    assert!(is_ec2(&xen));
}

#[test]
fn an_edge_machine_is_not_taken_for_an_instance() {
    for fields in [
        &[][..],
        &[("sys_vendor", "QEMU")],
        &[("sys_vendor", "Amazon EC2 compatible")],
        &[("board_asset_tag", "i-0123456789abcdefg")],
        &[("board_asset_tag", "i-7")],
        // A UUID that begins so by accident.
        &[("product_uuid", "EC2E1916-9099-7CAF-FD21-012345ABCDEF")],
        &[
            ("product_uuid", "4C4C4544-0043-3510-8052-B4C04F564231"),
            ("product_serial", "EC2SERIAL"),
        ],
        &[("product_uuid", "\u{e9}c2"), ("product_serial", "ec2")],
    ] {
        assert!(!is_ec2(&machine(fields)), "{fields:?}");
    }
}

#[test]
fn virtual_machines_of_vmware_are_known() {
    assert!(is_vmware(&machine(&[("sys_vendor", "VMware, Inc.")])));
    assert!(is_vmware(&machine(&[(
        "product_name",
        "VMware Virtual Platform"
    )])));
    assert!(!is_vmware(&machine(&[("sys_vendor", "QEMU")])));
}
