//! Which sources are asked: named ones, those of a cloud, and none for nothing.

use super::super::SEARCH;
use super::super::files::FILE;
use super::super::pretended::{Around, Fake, response};
use super::*;

const CONFIG: &str =
    "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: a}}\n";
const URL: &str = "http://10.0.2.2:8000/n1/user-data";

/// EC2 and VMware, both with a NodeConfig.
fn clouds() -> Around {
    Around::default()
        .program(
            "vmware-rpctool info-get guestinfo.userdata",
            true,
            CONFIG,
            "",
        )
        .program(
            "vmware-rpctool info-get guestinfo.userdata.encoding",
            false,
            "",
            "No value found",
        )
        .body("PUT http://169.254.169.254/latest/api/token", 200, "token")
        .body("GET http://169.254.169.254/latest/user-data", 200, CONFIG)
        .body(&format!("GET {URL}"), 200, CONFIG)
}

fn with_line(command_line: &'static str) -> Fake {
    Fake {
        command_line,
        ..Fake::default()
    }
}

fn search(machine: &Fake, around: &Around) -> Result<Found, FindError> {
    find(&Options::default(), machine, around)
}

fn is_silent(around: &Around) -> bool {
    around.requests.borrow().is_empty() && around.commands.borrow().is_empty()
}

#[test]
fn an_edge_machine_asks_no_cloud() {
    let around = clouds();
    let machine = Fake::default().smbios("sys_vendor", "QEMU");
    assert!(matches!(
        search(&machine, &around),
        Err(FindError::NotFound { .. })
    ));
    assert!(is_silent(&around));
}

#[test]
fn a_machine_of_a_cloud_asks_it_alone() {
    let around = clouds();
    let machine = Fake::default().smbios("sys_vendor", "Amazon EC2");
    assert_eq!(search(&machine, &around).unwrap().source, Source::Ec2);
    assert!(around.commands.borrow().is_empty());
    let around = clouds();
    let machine = Fake::default().smbios("sys_vendor", "VMware, Inc.");
    assert_eq!(search(&machine, &around).unwrap().source, Source::VMware);
    assert!(around.requests.borrow().is_empty());
}

#[test]
fn slow_sources_are_not_asked_only_to_compare() {
    let around = clouds();
    let machine = Fake {
        command_line: "ds=nocloud;s=http://10.0.2.2:8000/n1",
        ..Fake::default()
    }
    .with(FILE, CONFIG)
    .smbios("sys_vendor", "Amazon EC2");
    let survey = survey(&Options::default(), &machine, &around);
    assert!(is_silent(&around));
    let found = survey.outcome.unwrap();
    assert_eq!((found.source, found.ignored), (Source::File, vec![]));
    let states: Vec<_> = survey
        .reports
        .iter()
        .map(|report| (report.source.name(), report.state))
        .collect();
    assert_eq!(
        states,
        [
            ("named-file", State::Nothing),
            ("file", State::Used),
            ("folder", State::Nothing),
            ("cloud-init", State::Nothing),
            ("nocloud", State::NotAsked),
            ("config-drive", State::Nothing),
            ("vmware", State::NotAsked),
            ("ec2", State::NotAsked),
        ]
    );
}

#[test]
fn a_source_that_is_named_is_asked_wherever_and_alone() {
    let machine = |pin: &str| Fake::default().with(FILE, CONFIG).with(SOURCE_FILE, pin);
    let around = clouds();
    let found = search(&machine("# EC2 alone\n\nec2\n"), &around).unwrap();
    assert_eq!(found.source, Source::Ec2);
    // The kernel command line goes before the image, the option before both.
    let mut named = machine("ec2");
    named.command_line = "nodekiln.datasource=vmware";
    assert_eq!(search(&named, &around).unwrap().source, Source::VMware);
    let options = Options {
        datasource: Some(Source::File),
        ..Options::default()
    };
    let around = clouds();
    let found = find(&options, &named, &around).unwrap();
    assert_eq!(found.source, Source::File);
    assert!(is_silent(&around));
    // A file that is named goes before a source that is named.
    named.command_line = "nodekiln.datasource=ec2 nodekiln.config=/etc/nodekiln/nodeconfig.yaml";
    assert_eq!(search(&named, &around).unwrap().source, Source::NamedFile);
    // What the named source does not hold is not looked for elsewhere.
    let error = search(&machine("folder"), &clouds()).unwrap_err();
    assert!(matches!(&error, FindError::NotFound { tried } if tried.len() == 1));
    assert_eq!(
        error.hint(),
        "put a NodeConfig there, or name another source or none"
    );
}

#[test]
fn a_name_that_is_none_is_an_error_with_all_names() {
    let names = "data sources are: file, folder, cloud-init, nocloud, config-drive, vmware, ec2";
    let error = search(&with_line("nodekiln.datasource=imds"), &clouds()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel command line names the data source \"imds\", which does not exist"
    );
    assert_eq!(error.hint(), names);
    let pinned = Fake::default().with(SOURCE_FILE, "named-file\n");
    let error = search(&pinned, &clouds()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/nodekiln/datasource names the data source \"named-file\", which does not exist"
    );
    assert_eq!((error.hint().as_str(), error.may_pass()), (names, false));
    let large = Fake::default().with(SOURCE_FILE, &"#".repeat(5000));
    let error = search(&large, &clouds()).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    // Remarks alone name none.
    let empty = Fake::default()
        .with(SOURCE_FILE, "# any\n")
        .with(FILE, CONFIG);
    assert_eq!(search(&empty, &clouds()).unwrap().source, Source::File);
}

#[test]
fn seeds_by_url_folder_and_serial_number() {
    let around = clouds();
    let line = "quiet ds=nocloud;s=http://10.0.2.2:8000/n1/;h=node-1;i=iid-1";
    let found = search(&with_line(line), &around).unwrap();
    assert_eq!(found.source, Source::NoCloud);
    assert_eq!(
        found.origin,
        "http://10.0.2.2:8000/n1/user-data (named by the kernel command line)"
    );
    assert_eq!(around.asked(), [format!("GET {URL}")]);
    let serial = "ds=nocloud-net;s=http://10.0.2.2:8000/__dmi.chassis-serial-number__";
    let machine = Fake::default()
        .smbios("product_serial", serial)
        .smbios("chassis_serial", "n1");
    let found = search(&machine, &around).unwrap();
    assert_eq!(
        found.origin,
        "http://10.0.2.2:8000/n1/user-data (named by the SMBIOS serial number)"
    );
    // The kernel command line goes before it.
    let machine = Fake {
        command_line: "ds=nocloud;s=file:///seed/",
        ..machine
    }
    .with("/seed/user-data", CONFIG)
    .with("/seed/vendor-data", "not for us");
    let found = search(&machine, &around).unwrap();
    assert_eq!(
        found.origin,
        "/seed/user-data (named by the kernel command line)"
    );
}

#[test]
fn a_seed_that_is_named_and_missing_ends_the_search() {
    let error = search(&with_line("ds=nocloud;s=/seed"), &clouds()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NoCloud seed: /seed/user-data (named by the kernel command line) does not exist"
    );
    assert!(!error.may_pass());
    let error = search(&with_line("ds=nocloud;s=ftp://h/"), &clouds()).unwrap_err();
    assert!(!error.may_pass());
    assert!(error.hint().starts_with("give s=http://"));
    let around = Around::default().answer(&format!("GET {URL}"), Ok(response(503, "")));
    let line = "ds=nocloud;s=http://10.0.2.2:8000/n1";
    let error = search(&with_line(line), &around).unwrap_err();
    assert!(error.may_pass());
    assert!(around.time.get() <= SEARCH);
    // Without `s=` it is the volume's turn.
    let Err(FindError::NotFound { tried }) = search(&with_line("ds=nocloud"), &clouds()) else {
        panic!("found")
    };
    assert!(tried.iter().any(|it| it.outcome.contains("cidata")));
}

#[test]
fn the_worst_machine_is_given_up_within_the_limit_of_the_search() {
    let mut around = Around::default();
    around.hanging = vec!["vmware-rpctool", "vmtoolsd"];
    // It looks like both clouds, and nobody answers.
    let machine = Fake::default()
        .smbios("sys_vendor", "Amazon EC2")
        .smbios("product_name", "VMware7,1");
    let error = search(&machine, &around).unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(around.time.get() <= SEARCH, "{:?}", around.time.get());
}
