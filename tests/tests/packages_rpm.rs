//! rpms that are baked, judged by the rpm that has to live with them.

use std::fs;
use std::path::{Path, PathBuf};

use nodekiln_tests::berkeley;
use nodekiln_tests::command::Workshop;
use nodekiln_tests::program::run;
use nodekiln_tests::rpm_package::{DATABASE, Publisher, build, install, rpm};
use nodekiln_tests::small_base::{ROOT_SIZE, Shape, assert_sound, text};

/// What `%systemd_post agent.service` becomes on the release that the base is of.
const SYSTEMD_POST: &str = r#"%post
/sbin/ldconfig
if [ $1 -eq 1 ] && [ -x "/usr/lib/systemd/systemd-update-helper" ]; then
    # Initial installation
    /usr/lib/systemd/systemd-update-helper install-system-units agent.service || :
fi
"#;

/// A workshop whose base has rpm's database, with a shell and a C library.
fn workshop() -> Workshop {
    let folder = tempfile::tempdir().expect("a folder");
    let shell = build(
        folder.path(),
        "bash",
        "Version: 5.1\nProvides: /bin/sh\nConflicts: enemy < 3",
        "mkdir -p $1/usr/bin; echo sh > $1/usr/bin/bash",
        "%files\n%attr(755,root,root) /usr/bin/bash",
    );
    let glibc = build(
        folder.path(),
        "glibc",
        "Epoch: 2\nVersion: 2.34\nProvides: libc.so.6()(64bit) libc.so.6(GLIBC_2.34)(64bit)",
        "mkdir -p $1/usr/sbin; echo ldconfig > $1/usr/sbin/ldconfig",
        "%transfiletriggerin -P 2000000 -- /lib /usr/lib /lib64 /usr/lib64\n/sbin/ldconfig\n%files\n/usr/sbin/ldconfig",
    );
    Workshop::with(&Shape::default(), |tree| install(tree, &[shell, glibc]))
}

fn agent(workshop: &Workshop, payload: &str) -> PathBuf {
    build(
        workshop.folder(),
        "agent",
        &format!(
            "Epoch: 1\nVersion: 1.2\nRequires: glibc >= 2:2.30\nRequires: /usr/bin/bash libc.so.6(GLIBC_2.34)(64bit)\n\
             Requires(pre): bash\nRequires(postun): /bin/sh\nRequires: agent-data = 2.0~rc1\nRecommends: nothing\n\
             Obsoletes: old-agent < 1\n%define _binary_payload {payload}\n"
        ),
        "mkdir -p $1/usr/bin $1/etc/agent.d $1/usr/lib/systemd/system $1/var/lib/agent\n\
         echo agent > $1/usr/bin/agent; ln $1/usr/bin/agent $1/usr/bin/agentd; ln -s agent $1/usr/bin/agentctl\n\
         echo 'setting = 1' > $1/etc/agent.conf; echo 'of the package' > $1/etc/agent.d/kept.conf\n\
         printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' > $1/usr/lib/systemd/system/agent.service\n\
         touch $1/var/lib/agent/log",
        &format!(
            "{SYSTEMD_POST}%files\n%attr(4755,root,root) /usr/bin/agent\n%caps(cap_net_admin,cap_net_raw=ep) /usr/bin/agentd\n\
             /usr/bin/agentctl\n%config(noreplace) %attr(640,root,root) /etc/agent.conf\n%dir /etc/agent.d\n\
             %config(noreplace) /etc/agent.d/kept.conf\n/usr/lib/systemd/system/agent.service\n%dir %attr(700,root,root) /var/lib/agent\n\
             %ghost /var/lib/agent/log"
        ),
    )
}

fn data(workshop: &Workshop) -> PathBuf {
    build(
        workshop.folder(),
        "agent-data",
        "Version: 2.0~rc1\n%define _binary_payload w6.xzdio",
        "mkdir -p $1/usr/share/agent; head -c 300000 /dev/zero > $1/usr/share/agent/data",
        "%post -p /sbin/ldconfig\n%files\n/usr/share/agent",
    )
}

/// Every row of every table of the database, but for the order.
fn tables(tree: &Path) -> Vec<String> {
    let database = tree.join(DATABASE).join("rpmdb.sqlite");
    let sql = |query: &str| run("sqlite3", &[text(&database), query]);
    let names = sql(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    );
    let mut rows = Vec::new();
    for name in names.lines() {
        let columns = if name == "Packages" {
            "hex(blob)"
        } else {
            "quote(key), idx, (SELECT hex(substr(blob, 1, 400)) FROM Packages p WHERE p.hnum = t.hnum)"
        };
        let found = sql(&format!("SELECT '{name}', {columns} FROM '{name}' t"));
        rows.extend(found.lines().map(str::to_owned));
    }
    rows.sort();
    rows
}

#[test]
fn rpm_lists_checks_rebuilds_and_removes_what_was_baked() {
    let workshop = workshop();
    let (rsa, elliptic) = (
        Publisher::new(workshop.folder(), "rsa3072"),
        Publisher::new(workshop.folder(), "ed25519"),
    );
    let (agent, data) = (agent(&workshop, "w19.zstdio"), data(&workshop));
    rsa.sign(&agent);
    elliptic.sign(&data);
    let keys = [rsa.key(), elliptic.key()].map(|key| format!("keys: [{}]", text(&key)));
    workshop.list_packages(&[(&agent, &keys[0]), (&data, &keys[1])]);
    let built = workshop.built(&[]);
    let lock = fs::read_to_string(workshop.path("nodekiln.lock")).expect("reads");
    assert_eq!(lock.matches("local file, signed by ").count(), 2, "{lock}");
    assert_sound(&built.join("small.raw"), ROOT_SIZE, workshop.folder());
    let tree = workshop.root_of(&built);

    let format =
        "%{name} %|epoch?{%{epoch}:}|%{version}-%{release} %{sigpgp:pgpsig}%{rsaheader:pgpsig}\n";
    let listed = rpm(&tree, &["-q", "agent", "agent-data", "--qf", format]);
    assert!(listed.starts_with("agent 1:1.2-1.el9 "), "{listed}");
    assert!(listed.contains("agent-data 2.0~rc1-1.el9 "), "{listed}");
    assert_eq!(rpm(&tree, &["-qa"]).lines().count(), 4);
    assert_eq!(rpm(&tree, &["-V", "agent", "agent-data"]), "");
    assert!(rpm(&tree, &["-ql", "agent"]).contains("/usr/bin/agentctl"));
    for question in [
        &["-qf", "/usr/bin/agent"][..],
        &["-q", "--whatprovides", "agent"],
        &["-q", "--whatrequires", "agent-data"],
    ] {
        assert_eq!(
            rpm(&tree, question),
            "agent-1.2-1.el9.noarch\n",
            "{question:?}"
        );
    }
    let capabilities = run("getcap", &[text(&tree.join("usr/bin/agentd"))]);
    assert!(
        capabilities.contains("cap_net_admin,cap_net_raw=ep"),
        "{capabilities}"
    );

    // rpm makes the same tables out of the headers.
    let before = tables(&tree);
    rpm(&tree, &["--rebuilddb"]);
    assert_eq!(tables(&tree), before);

    rpm(&tree, &["-e", "agent"]);
    assert!(!tree.join("usr/bin/agent").exists() && !tree.join("var/lib/agent").exists());
    assert!(!tree.join("etc/agent.conf").exists());
    rpm(&tree, &["-e", "agent-data"]);
    assert!(!tree.join("usr/share/agent").exists());
    assert_eq!(rpm(&tree, &["-qa"]).lines().count(), 2);
}

#[test]
fn configuration_of_the_image_stays_and_a_build_is_the_same_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let glibc = build(
        folder.path(),
        "glibc",
        "Epoch: 2\nVersion: 2.34\nProvides: libc.so.6(GLIBC_2.34)(64bit) bash /usr/bin/bash /bin/sh /sbin/ldconfig",
        "",
        "%files",
    );
    let workshop = Workshop::with(&Shape::default(), |tree| {
        install(tree, &[glibc]);
        fs::create_dir_all(tree.join("etc/agent.d")).expect("creates");
        fs::write(tree.join("etc/agent.d/kept.conf"), "of the image\n").expect("writes");
    });
    let (agent, data) = (agent(&workshop, "w9.gzdio"), data(&workshop));
    workshop.list_packages(&[
        (&agent, "allowUnsigned: true"),
        (&data, "allowUnsigned: true"),
    ]);
    let built = workshop.built(&[]);
    let tree = workshop.root_of(&built);
    let read = |path: &str| fs::read_to_string(tree.join(path)).expect(path);
    assert_eq!(read("etc/agent.d/kept.conf"), "of the image\n");
    assert_eq!(read("etc/agent.d/kept.conf.rpmnew"), "of the package\n");
    workshop.build(&["--output", "second"]).succeeded();
    let second = workshop
        .path("second/small")
        .join(built.file_name().expect("a name"));
    run(
        "cmp",
        &[
            text(&built.join("small.raw")),
            text(&second.join("small.raw")),
        ],
    );
}

#[test]
fn triggers_and_conditions_are_keys_as_rpm_makes_them() {
    let workshop = workshop();
    let package = build(
        workshop.folder(),
        "keys",
        "Recommends: (bash if glibc else (zsh or ksh >= 2))\nSuggests: (bash and glibc)\n\
         Supplements: (bash unless fish)",
        "",
        "%filetriggerin -- /usr /lib /usr\ntrue\n%filetriggerin -P 5 -- /lib /etc\ntrue\n\
         %transfiletriggerin -- /opt /opt\ntrue\n%triggerin -- fish, fish < 2\ntrue\n%files",
    );
    let reason = "allowUnsigned: true\nignoreScripts: a test of what is recorded";
    workshop.list_packages(&[(&package, reason)]);
    let tree = workshop.root_of(&workshop.built(&[]));
    let before = tables(&tree);
    for key in [
        "Filetriggername|'/usr'",
        "Recommendname|'!glibc'",
        "Suggestname|'bash'",
    ] {
        assert!(before.iter().any(|row| row.starts_with(key)), "{key}");
    }
    rpm(&tree, &["--rebuilddb"]);
    assert_eq!(tables(&tree), before);
}

const UNSIGNED: &str = "allowUnsigned: true";

#[test]
fn signatures_are_judged_when_the_lock_is_made() {
    let workshop = workshop();
    let (publisher, other) = (
        Publisher::new(workshop.folder(), "rsa3072"),
        Publisher::new(workshop.folder(), "ed25519"),
    );
    let package = data(&workshop);
    workshop.list_packages(&[(&package, "")]);
    workshop
        .lock()
        .failed(2, &["nothing says whose signature", "allowUnsigned"]);
    let right = format!("keys: [{}]", text(&publisher.key()));
    workshop.list_packages(&[(&package, &right)]);
    workshop.lock().failed(5, &["there is no signature in it"]);
    publisher.sign(&package);
    let wrong = format!("keys: [{}]", text(&other.key()));
    workshop.list_packages(&[(&package, &wrong)]);
    workshop
        .lock()
        .failed(5, &["no good signature of a trusted key"]);
    workshop.list_packages(&[(&package, &right)]);
    workshop.lock().succeeded();

    // One bit of the header, and one of the payload.
    let whole = fs::read(&package).expect("reads");
    let name = whole
        .windows(11)
        .rposition(|bytes| bytes == b"agent-data\0")
        .expect("its name");
    let mut header = whole.clone();
    header[name] = b'A';
    fs::write(&package, &header).expect("writes");
    workshop.lock().failed(5, &["no good signature"]);
    let mut payload = whole.clone();
    let middle = payload.len() - 40;
    payload[middle] ^= 1;
    fs::write(&package, &payload).expect("writes");
    workshop.lock().succeeded();
    workshop.build(&[]).failed(5, &["read the package"]);
    fs::write(&package, &header).expect("writes");
    workshop
        .build_of(&[(&package, UNSIGNED)])
        .failed(5, &["its header has not the sum beside it"]);
}

/// A package of one program, with these lines in its preamble, and these scripts.
fn made(workshop: &Workshop, name: &str, preamble: &str, scripts: &str) -> PathBuf {
    let install = format!("mkdir -p $1/usr/bin; echo x > $1/usr/bin/{name}");
    let files = format!("{scripts}\n%files\n/usr/bin/{name}");
    build(workshop.folder(), name, preamble, &install, &files)
}

#[test]
fn what_the_image_cannot_take_is_one_clear_error() {
    let workshop = workshop();
    for (name, preamble, code, words) in [
        (
            "newer",
            "Requires: glibc >= 2:2.35",
            2,
            "it requires glibc >= 2:2.35; there is glibc = 2:2.34-1.el9",
        ),
        (
            "lonely",
            "Requires: libmissing.so.1()(64bit)",
            2,
            "libmissing.so.1()(64bit); neither the base",
        ),
        (
            "pathless",
            "Requires: /usr/bin/missing",
            2,
            "it requires /usr/bin/missing",
        ),
        ("rich", "Requires: (bash or zsh)", 3, "is a condition"),
        (
            "enemy",
            "Version: 2",
            2,
            "bash 5.1-1.el9 conflicts with enemy < 3",
        ),
        (
            "taker",
            "Obsoletes: bash < 6",
            2,
            "taker 1.0-1.el9 obsoletes bash < 6",
        ),
        ("bash", "Version: 6", 3, "the base has version 5.1-1.el9"),
        (
            "arm",
            "BuildArch: aarch64",
            2,
            "it is for aarch64, the image for x86_64",
        ),
    ] {
        let package = made(&workshop, name, preamble, "");
        workshop
            .build_of(&[(&package, UNSIGNED)])
            .failed(code, &[words]);
    }
}

#[test]
fn files_that_the_image_cannot_take_are_one_clear_error() {
    let workshop = workshop();
    for (name, file, attributes, words) in [
        (
            "thief",
            "bash",
            "",
            "/usr/bin/bash belongs to the package bash",
        ),
        (
            "owner",
            "owner",
            "%attr(644,nobody-here,root) ",
            "the image has no user 'nobody-here'",
        ),
    ] {
        let install = format!("mkdir -p $1/usr/bin; echo x > $1/usr/bin/{file}");
        let files = format!("%files\n{attributes}/usr/bin/{file}");
        let package = build(workshop.folder(), name, "", &install, &files);
        workshop
            .build_of(&[(&package, UNSIGNED)])
            .failed(2, &[words]);
    }
}

#[test]
fn scripts_that_would_do_something_are_refused_unless_they_are_passed_over() {
    let workshop = workshop();
    for (name, scripts, words) in [
        (
            "user",
            "%pre\ngetent group a || groupadd a",
            "%pre: `getent group a || groupadd a`",
        ),
        ("lua", "%post -p <lua>\nprint(1)", "a script of <lua>"),
        ("own", "%triggerin -- bash\necho", "its own trigger on bash"),
        (
            "files",
            "%filetriggerin -- /usr\necho",
            "its own triggers on files",
        ),
    ] {
        let package = made(&workshop, name, "", scripts);
        workshop
            .build_of(&[(&package, UNSIGNED)])
            .failed(3, &[words]);
    }
    let user = made(&workshop, "user", "", "%pre\nuseradd agent");
    workshop.list_packages(&[(
        &user,
        "allowUnsigned: true\nignoreScripts: spec.users does it",
    )]);
    let tree = workshop.root_of(&workshop.built(&[]));
    assert!(rpm(&tree, &["-q", "--scripts", "user"]).contains("useradd agent"));
}

/// A workshop whose base has rpm's database in Berkeley DB; `change` changes its folder.
fn berkeley_workshop(change: impl Fn(&Path)) -> Workshop {
    let folder = tempfile::tempdir().expect("a folder");
    let bash = "mkdir -p $1/usr/bin; echo sh > $1/usr/bin/bash";
    let shell = build(
        folder.path(),
        "bash",
        "Version: 5.1\nProvides: /bin/sh",
        bash,
        "%files\n%attr(755,root,root) /usr/bin/bash",
    );
    let glibc = build(
        folder.path(),
        "glibc",
        "Epoch: 2\nVersion: 2.34\nProvides: libc.so.6(GLIBC_2.34)(64bit) /sbin/ldconfig",
        "",
        "%files",
    );
    Workshop::with(&Shape::default(), |tree| {
        install(tree, &[shell.clone(), glibc.clone()]);
        let database = tree.join(DATABASE);
        berkeley::convert(&database, 4096);
        fs::write(database.join("__db.001"), "memory").expect("writes");
        change(&database);
    })
}

#[test]
fn rpm_lists_checks_and_removes_what_was_baked_in_berkeley_db() {
    let workshop = berkeley_workshop(|_| {});
    let (agent, data) = (agent(&workshop, "w9.gzdio"), data(&workshop));
    workshop.list_packages(&[(&agent, UNSIGNED), (&data, UNSIGNED)]);
    let built = workshop.built(&[]);
    assert_sound(&built.join("small.raw"), ROOT_SIZE, workshop.folder());
    let tree = workshop.root_of(&built);
    let database = tree.join(DATABASE);
    assert!(!database.join("__db.001").exists(), "memory of before");
    let held = berkeley::checked(&database);
    assert_eq!(held["Packages"].len(), 5);
    assert_eq!(held["Packages"]["00000000"], "04000000");

    let old = |arguments: &[&str]| {
        let fixed = ["--define", "_db_backend bdb_ro"];
        rpm(&tree, &[&fixed[..], arguments].concat())
    };
    assert_eq!(old(&["-qa"]).lines().count(), 4);
    assert_eq!(old(&["-V", "agent", "agent-data"]), "");
    for question in [
        &["-q", "agent"][..],
        &["-qf", "/usr/bin/agent"],
        &["-q", "--whatprovides", "agent"],
        &["-q", "--whatrequires", "agent-data"],
    ] {
        assert_eq!(old(question), "agent-1.2-1.el9.noarch\n", "{question:?}");
    }

    // rpm makes the same keys out of the headers, in a database that it writes.
    rpm(&tree, &["--rebuilddb"]);
    let of_rpm = berkeley::of_sqlite(&database.join("rpmdb.sqlite"), 4);
    let by_header = |files: &berkeley::Files| {
        let mut rows = Vec::new();
        for (name, pairs) in files.iter().filter(|(name, _)| *name != "Packages") {
            for (key, value) in pairs {
                for place in value.as_bytes().as_chunks::<16>().0 {
                    let (number, place) = place.split_at(8);
                    let number = String::from_utf8_lossy(number).into_owned();
                    let header = &files["Packages"][&number][..800];
                    let place = String::from_utf8_lossy(place).into_owned();
                    rows.push(format!("{name} {key} {place} {header}"));
                }
            }
        }
        rows.sort();
        rows
    };
    assert_eq!(by_header(&held), by_header(&of_rpm));
    rpm(&tree, &["-e", "agent"]);
    assert!(!tree.join("usr/bin/agent").exists() && !tree.join("var/lib/agent").exists());
    rpm(&tree, &["-e", "agent-data"]);
    assert_eq!(rpm(&tree, &["-qa"]).lines().count(), 2);
}

#[test]
fn databases_that_are_not_understood_are_refused() {
    let refused = |change: &dyn Fn(&Path), code: i32, words: &[&str]| {
        let workshop = berkeley_workshop(change);
        let package = data(&workshop);
        workshop
            .build_of(&[(&package, UNSIGNED)])
            .failed(code, words);
    };
    let patch = |database: &Path, name: &str, at: usize, byte: u8| {
        let file = database.join(name);
        let mut bytes = fs::read(&file).expect("reads");
        bytes[at] = byte;
        fs::write(&file, bytes).expect("writes");
    };
    // Another version of the format, of the file of headers and of an index.
    for name in ["Packages", "Providename"] {
        let words = [name, "another version of Berkeley DB", "rpm --rebuilddb"];
        refused(&|database| patch(database, name, 16, 10), 3, &words);
    }
    // An index of other packages: that of a time before the last.
    let words = ["its index Name lacks 'glibc'", "rpm --rebuilddb"];
    let forget = |database: &Path| {
        fs::remove_file(database.join("Name")).expect("removes");
        let name = [("62617368".to_owned(), "0100000000000000".to_owned())];
        berkeley::load(database, &[("Name".to_owned(), name.into())].into(), 4096);
    };
    refused(&forget, 7, &words);
    // A page of a tree that is none.
    refused(
        &|database| patch(database, "Requirename", 4096 + 25, 9),
        7,
        &["Requirename"],
    );

    // A table that rpm does not make, in a database in SQLite that is otherwise sound.
    let folder = tempfile::tempdir().expect("a folder");
    let workshop = Workshop::with(&Shape::default(), |tree| {
        let package = build(
            folder.path(),
            "second",
            "Provides: /sbin/ldconfig",
            "",
            "%files",
        );
        install(tree, &[package]);
        let trap = "CREATE TRIGGER trap AFTER INSERT ON Packages BEGIN DELETE FROM Name; END";
        run(
            "sqlite3",
            &[text(&tree.join(DATABASE).join("rpmdb.sqlite")), trap],
        );
        let left = tree.join(DATABASE).join("rpmdb.sqlite-wal");
        assert!(!left.exists() || fs::metadata(left).expect("reads").len() == 0);
    });
    let package = data(&workshop);
    workshop
        .build_of(&[(&package, UNSIGNED)])
        .failed(7, &["trigger 'trap', which rpm does not make"]);
}
