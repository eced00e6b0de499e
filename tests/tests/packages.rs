//! Packages that are baked, judged by the package manager that has to live with them.

use std::cmp::Ordering;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln::packages::deb::version;
use nodekiln_tests::command::Workshop;
use nodekiln_tests::debian_package::{DebianPackage, install};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::{ROOT_SIZE, Shape, assert_sound, text};
use serde_json::Value;

/// A workshop whose base has dpkg's database with a C library and a service of its own.
fn workshop() -> Workshop {
    let folder = tempfile::tempdir().expect("a folder");
    let libc = DebianPackage::new(
        folder.path(),
        "libc6",
        "Version: 2.36-9\nMulti-Arch: same\nProvides: libc",
    );
    let base = DebianPackage::new(folder.path(), "base-tool", "Conflicts: enemy (<< 3)")
        .put("usr/bin/base-tool", 0o755, "tool")
        .put("etc/base.conf", 0o644, "base\n")
        .put("DEBIAN/conffiles", 0o644, "/etc/base.conf\n");
    let packages = [libc.build(), base.build()];
    Workshop::with(&Shape::default(), |tree| install(tree, &packages))
}

fn dpkg(tree: &Path, arguments: &[&str]) -> String {
    let root = format!("--root={}", text(tree));
    run(
        "dpkg",
        &[&[root.as_str(), "--force-script-chrootless"], arguments].concat(),
    )
}

fn agent(workshop: &Workshop) -> PathBuf {
    DebianPackage::new(
        workshop.folder(),
        "agent",
        "Version: 1:1.2-3\nDepends: libc6 (>= 2.34), agent-data (= 2.0~rc1) | other\nPre-Depends: libc\nHomepage: https://example.com/",
    )
    .put("usr/bin/agent", 0o4755, "agent")
    .put("usr/share/doc/agent/copyright", 0o644, "free\n")
    .put("etc/agent.conf", 0o640, "setting = 1\n")
    .put("etc/agent.d/kept.conf", 0o644, "of the package\n")
    .put("var/lib/agent/state", 0o600, "")
    .link("usr/bin/agentctl", "agent")
    .hard_link("usr/bin/agentd", "usr/bin/agent")
    .unit("agent.service")
    .put("DEBIAN/conffiles", 0o644, "/etc/agent.conf\n/etc/agent.d/kept.conf\n")
    .put("DEBIAN/triggers", 0o644, "interest-noawait /usr/share/agent\n")
    .compressed("zstd")
    .build()
}

fn data(workshop: &Workshop) -> PathBuf {
    DebianPackage::new(
        workshop.folder(),
        "agent-data",
        "Version: 2.0~rc1\nArchitecture: all\nMulti-Arch: foreign",
    )
    .put("usr/share/agent/data", 0o644, vec![7; 300_000])
    .compressed("gzip")
    .build()
}

#[test]
fn the_systems_own_tools_list_check_and_remove_what_was_baked() {
    let workshop = workshop();
    let (agent, data) = (agent(&workshop), data(&workshop));
    workshop.list_packages(&[(&agent, ""), (&data, "")]);
    let built = workshop.built(&[]);
    assert_sound(&built.join("small.raw"), ROOT_SIZE, workshop.folder());
    let tree = workshop.root_of(&built);

    assert_eq!(dpkg(&tree, &["--audit"]), "");
    let listed = run(
        "dpkg-query",
        &[
            &format!("--root={}", text(&tree)),
            "-W",
            "-f",
            "${db:Status-Abbrev} ${binary:Package} ${Version} ${Architecture} ${Homepage}|",
        ],
    );
    assert_eq!(
        listed,
        "ii  agent 1:1.2-3 amd64 https://example.com/|ii  agent-data 2.0~rc1 all |\
         ii  base-tool 1.0 amd64 |ii  libc6:amd64 2.36-9 amd64 |"
    );
    // Both what dpkg lists of an image in which it installed the packages itself.
    let other = workshop.path("by-dpkg");
    run("cp", &["-a", text(&workshop.path("tree")), text(&other)]);
    dpkg(&other, &["--install", text(&data), text(&agent)]);
    for question in [
        ["-L", "agent"],
        ["-L", "agent-data"],
        ["-s", "agent"],
        ["-s", "agent-data"],
    ] {
        assert_eq!(
            dpkg(&tree, &question),
            dpkg(&other, &question),
            "{question:?}"
        );
    }
    for file in [
        "info/agent.md5sums",
        "info/agent.list",
        "info/agent.postrm",
        "triggers/File",
    ] {
        let read =
            |tree: &Path| fs::read_to_string(tree.join("var/lib/dpkg").join(file)).expect(file);
        assert_eq!(read(&tree), read(&other), "{file}");
    }
    assert_eq!(dpkg(&tree, &["-V", "agent", "agent-data"]), "");
    let mode = |path: &str| {
        fs::metadata(tree.join(path))
            .expect(path)
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode("usr/bin/agent"), 0o4755);
    assert_eq!(mode("etc/agent.conf"), 0o640);
    assert_eq!(
        fs::read(tree.join("usr/bin/agentd")).expect("a file"),
        b"agent"
    );
    let link = tree.join("etc/systemd/system/multi-user.target.wants/agent.service");
    assert!(link.is_symlink(), "its unit is enabled");

    // Only what the package brought goes away, and its configuration with a purge.
    dpkg(&tree, &["--remove", "agent"]);
    assert!(!tree.join("usr/bin/agent").exists() && !tree.join("var/lib/agent").exists());
    assert!(tree.join("etc/agent.conf").exists());
    dpkg(&tree, &["--purge", "agent"]);
    assert!(!tree.join("etc/agent.conf").exists());
    assert!(!link.is_symlink(), "deb-systemd-helper knew of the link");
    let state = tree.join("var/lib/systemd/deb-systemd-helper-enabled");
    assert!(!state.join("agent.service.dsh-also").exists());
    dpkg(&tree, &["--purge", "agent-data"]);
    assert_eq!(dpkg(&tree, &["--audit"]), "");
    assert!(!tree.join("usr/share/agent").exists());
}

#[test]
fn a_manifest_and_a_lock_name_the_packages_and_a_build_is_the_same_twice() {
    let workshop = workshop();
    let (agent, data) = (agent(&workshop), data(&workshop));
    workshop.list_packages(&[(&agent, ""), (&data, "")]);
    let built = workshop.built(&[]);
    let manifest = fs::read(built.join("manifest.json")).expect("reads");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let entry = &manifest["packages"]["agent"];
    assert_eq!(entry["version"], "1:1.2-3");
    assert_eq!(entry["trust"], "local file");
    let sum = run("sha256sum", &[text(&agent)]);
    assert_eq!(entry["sha256"], sum[..64]);
    let lock = fs::read_to_string(workshop.path("nodekiln.lock")).expect("reads");
    assert!(lock.contains(&sum[..64]), "{lock}");

    workshop.build(&["--output", "second"]).succeeded();
    let key = built.file_name().expect("a name");
    let second = workshop.path("second/small").join(key);
    run(
        "cmp",
        &[
            text(&built.join("small.raw")),
            text(&second.join("small.raw")),
        ],
    );

    // Another content of the file is not built, and the lock says so.
    DebianPackage::new(
        workshop.folder(),
        "agent-data",
        "Version: 2.0~rc1\nArchitecture: all",
    )
    .build();
    workshop
        .nodekiln(&["lock", "--check", "--offline"])
        .failed(2, &["packages"]);
}

#[test]
fn configuration_of_the_image_and_of_an_overlay_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let libc =
        DebianPackage::new(folder.path(), "libc6", "Version: 2.36-9\nProvides: libc").build();
    let workshop = Workshop::with(&Shape::default(), |tree| {
        install(tree, &[libc]);
        fs::create_dir_all(tree.join("etc/agent.d")).expect("creates");
        fs::write(tree.join("etc/agent.d/kept.conf"), "of the image\n").expect("writes");
    });
    let overlay = workshop.path("mine/etc");
    fs::create_dir_all(&overlay).expect("creates");
    fs::write(overlay.join("agent.conf"), "setting = 2\n").expect("writes");
    let (agent, data) = (agent(&workshop), data(&workshop));
    let spec = format!(
        "  overlays: [common, linux, mine]\n  outputs: [{{format: raw}}]\n  services: {{disable: [agent.service]}}\n  \
         packages: [{{path: {}}}, {{path: {}}}]\n",
        text(&agent),
        text(&data)
    );
    workshop.write_profile("base.raw", &spec);
    let tree = workshop.root_of(&workshop.built(&[]));
    let read = |path: &str| fs::read_to_string(tree.join(path)).expect(path);
    assert_eq!(read("etc/agent.conf"), "setting = 2\n");
    assert_eq!(read("etc/agent.d/kept.conf"), "of the image\n");
    assert_eq!(read("etc/agent.d/kept.conf.dpkg-dist"), "of the package\n");
    assert_eq!(
        dpkg(&tree, &["-V", "agent"]),
        "??5?????? c /etc/agent.conf\n??5?????? c /etc/agent.d/kept.conf\n"
    );
    let link = tree.join("etc/systemd/system/multi-user.target.wants/agent.service");
    assert!(
        !link.is_symlink(),
        "the profile's word goes over the package's"
    );
}

#[test]
fn scripts_that_matter_are_refused_by_what_they_would_run() {
    let workshop = workshop();
    let user = DebianPackage::new(workshop.folder(), "user", "")
        .put("usr/bin/user", 0o755, "user")
        .put(
            "DEBIAN/postinst",
            0o755,
            "#!/bin/sh\nset -e\nadduser --system agent\n",
        )
        .put("DEBIAN/preinst", 0o755, "#!/bin/sh\nexit 0\n")
        .build();
    workshop.build_of(&[(&user, "")]).failed(
        3,
        &[
            "the package user 1.0",
            "postinst: `adduser --system agent`",
            "ignoreScripts",
        ],
    );
    workshop.list_packages(&[(&user, "ignoreScripts: the profile makes the user")]);
    let built = workshop.built(&[]);
    let manifest = fs::read_to_string(built.join("manifest.json")).expect("reads");
    assert!(
        manifest.contains("the profile makes the user"),
        "{manifest}"
    );
    let tree = workshop.root_of(&built);
    let script = tree.join("var/lib/dpkg/info/user.postinst");
    assert!(
        fs::read_to_string(script)
            .expect("recorded")
            .contains("adduser")
    );
    assert_eq!(dpkg(&tree, &["--audit"]), "");
}

#[test]
fn triggers_of_other_packages_are_named_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let icons = DebianPackage::new(folder.path(), "icons", "")
        .put(
            "DEBIAN/triggers",
            0o644,
            "interest-noawait /usr/share/icons\ninterest draw\n",
        )
        .put("usr/share/doc/icons", 0o644, "x")
        .build();
    let workshop = Workshop::with(&Shape::default(), |tree| install(tree, &[icons]));
    let theme = DebianPackage::new(workshop.folder(), "theme", "")
        .put("usr/share/icons/new/a.png", 0o644, "a")
        .build();
    workshop
        .build_of(&[(&theme, "")])
        .failed(3, &["the trigger /usr/share/icons of icons"]);
    let artist = DebianPackage::new(workshop.folder(), "artist", "")
        .put("DEBIAN/triggers", 0o644, "activate draw\n")
        .build();
    workshop
        .build_of(&[(&artist, "")])
        .failed(3, &["the trigger draw of icons"]);
}

#[test]
fn what_the_image_cannot_take_is_one_clear_error() {
    let workshop = workshop();
    let made = |name: &str, fields: &str, path: &str| {
        DebianPackage::new(workshop.folder(), name, fields)
            .put(path, 0o644, name)
            .build()
    };
    let newer = made("newer", "Depends: libc6 (>= 2.37)", "usr/bin/newer");
    workshop.build_of(&[(&newer, "")]).failed(
        2,
        &[
            "the package newer 1.0",
            "depends on libc6 (>= 2.37)",
            "libc6 is there in version 2.36-9",
        ],
    );
    let lonely = made(
        "lonely",
        "Pre-Depends: company | friends (>> 2)",
        "usr/bin/lonely",
    );
    workshop
        .build_of(&[(&lonely, "")])
        .failed(2, &["company | friends (>> 2)", "neither the base"]);
    let enemy = made("enemy", "Version: 2", "usr/bin/enemy");
    workshop
        .build_of(&[(&enemy, "")])
        .failed(2, &["base-tool 1.0 conflicts with enemy (<< 3)"]);
    // Through the link from /bin, too.
    let thief = made("thief", "", "bin/base-tool");
    workshop
        .build_of(&[(&thief, "")])
        .failed(2, &["/usr/bin/base-tool belongs to the package base-tool"]);
    let twin = made("twin", "", "usr/bin/thief-too");
    let other = made("other-twin", "", "usr/bin/thief-too");
    workshop
        .build_of(&[(&twin, ""), (&other, "")])
        .failed(2, &["belongs to the package twin"]);
    workshop
        .build_of(&[(&twin, ""), (&twin, "")])
        .failed(2, &["lists it twice"]);
    let arm = made("arm", "Architecture: arm64", "usr/bin/arm");
    workshop
        .build_of(&[(&arm, "")])
        .failed(2, &["it is for arm64, the image for amd64"]);
    let again = made("base-tool", "Version: 2", "usr/bin/base-tool");
    workshop
        .build_of(&[(&again, "")])
        .failed(3, &["the base has version 1.0 of it"]);
    let kubelet = made("kubelet", "", "usr/bin/kubelet");
    workshop
        .build_of(&[(&kubelet, "")])
        .failed(2, &["package kubelet and component kubelet"]);

    let cut = workshop.path("cut.deb");
    let whole = fs::read(&newer).expect("reads");
    fs::write(&cut, &whole[..whole.len() - 20]).expect("writes");
    workshop
        .build_of(&[(&cut, "")])
        .failed(5, &["cut.deb", "get it again"]);
    fs::write(&cut, "no package").expect("writes");
    for more in ["", "allowUnsigned: true"] {
        workshop.list_packages(&[(&cut, more)]);
        let words = [
            "cut.deb",
            "neither a Debian package nor an rpm",
            "get it again",
        ];
        workshop.lock().failed(5, &words);
    }
}

#[test]
fn an_image_gets_no_second_ssm_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let tool = DebianPackage::new(folder.path(), "tool", "").build();
    let workshop = Workshop::with(&Shape::default(), |tree| {
        install(tree, &[tool]);
        let seed = tree.join("var/lib/snapd/seed/snaps");
        fs::create_dir_all(&seed).expect("creates");
        fs::write(seed.join("amazon-ssm-agent_9881.snap"), "a snap").expect("writes");
    });
    let agent = DebianPackage::new(workshop.folder(), "amazon-ssm-agent", "Version: 3.3.1-1")
        .put("usr/bin/amazon-ssm-agent", 0o755, "agent")
        .build();
    workshop
        .build_of(&[(&agent, "")])
        .failed(2, &["as a snap, and two agents", "first boot"]);
}

#[test]
fn a_profile_says_exactly_what_a_package_is() {
    let workshop = workshop();
    for (keys, words) in [
        ("{}", "neither url nor path"),
        (
            "{path: a.deb, url: 'https://example.com/a.deb'}",
            "url and path",
        ),
        ("{url: 'https://example.com/a.deb'}", "nothing says what"),
        (
            "{url: 'http://example.com/a.deb', sha256: x}",
            "no https URL",
        ),
        (
            "{path: a.deb, checksumUrl: 'https://example.com/SUMS'}",
            "checksumUrl",
        ),
        (
            "{path: a.deb, ignoreScripts: ' '}",
            "ignoreScripts is empty",
        ),
    ] {
        workshop.write_profile("base.raw", &format!("  packages: [{keys}]\n"));
        let ran = workshop.nodekiln(&["validate", "profile.yaml"]);
        assert_eq!(ran.code, Some(2), "{keys}");
        assert!(ran.stderr.contains(words), "{keys}: {}", ran.stderr);
    }
}

#[test]
fn versions_are_in_dpkgs_order() {
    let versions = [
        "0",
        "0~",
        "0~~1",
        "0-0",
        "0a",
        "00.1",
        "1.0",
        "1.0-1",
        "1.0-1+b1",
        "1.0~rc1-1",
        "1.0+dfsg-1",
        "1.0.0",
        "1.0a",
        "1.10",
        "1:0",
        "0:9",
        "1-1-1",
        "9999999999999999999999",
        "1.0-1ubuntu0.1",
        "1.0.A",
    ];
    for left in versions {
        for right in versions {
            let is = |operator: &str| {
                let arguments = ["--compare-versions", left, operator, right];
                Command::new("dpkg")
                    .args(arguments)
                    .status()
                    .expect("dpkg")
                    .success()
            };
            let wanted = match version::compare(left, right) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            assert!(is(wanted), "{left} {wanted} {right}");
        }
    }
}
