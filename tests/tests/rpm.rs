//! The reader of rpm's databases against rpm itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use nodekiln::os::rpm;
use nodekiln_tests::program::run;
use nodekiln_tests::rpm_package::{build_all, record};
use nodekiln_tests::small_base::text;
use nodekiln_tests::volumes::image_of;

/// Packages of the database: enough for a tree of pages.
const PACKAGES: usize = 300;
const QUERY: &str = "%{name} %|epoch?{%{epoch}:}|%{version}-%{release}\\n";

/// Makes packages and a database in which they are installed.
fn database(folder: &Path) -> PathBuf {
    let mut spec = "Name: base\nVersion: 1\nRelease: 1.el9\nSummary: x\nLicense: none\n\
                    BuildArch: noarch\n%description\nx\n%files\n"
        .to_owned();
    for number in 0..PACKAGES {
        let epoch = match number % 3 {
            0 => format!("Epoch: {number}\n"),
            _ => String::new(),
        };
        // From headers that fit into a page to such of a hundred pages.
        let lines = if number % 50 == 7 { 5000 } else { number };
        let words = "some words of a description that is long\n".repeat(lines + 1);
        write!(
            spec,
            "%package -n part{number}\nVersion: {number}.{}\n{epoch}Summary: x\n\
             %description -n part{number}\n{words}\n%files -n part{number}\n",
            number * 7
        )
        .expect("a string");
    }
    let packages = build_all(folder, &spec);
    assert_eq!(packages.len(), PACKAGES + 1);
    let database = folder.join("db");
    record(&database, &packages);
    database
}

/// What rpm says that the database holds.
fn by_rpm(database: &Path, backend: &str) -> BTreeMap<String, String> {
    let define = format!("_db_backend {backend}");
    let path = format!("--dbpath={}", text(database));
    let printed = run("rpm", &["--define", &define, &path, "-qa", "--qf", QUERY]);
    let packages: BTreeMap<String, String> = printed
        .lines()
        // Berkeley DB alone has no index of names beside it.
        .filter(|line| !line.starts_with("warning: "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    assert_eq!(packages.len(), PACKAGES + 1, "{printed}");
    packages
}

/// What nodekiln reads of a root file system that has the database's file.
fn by_nodekiln(file: &Path, to: &str) -> BTreeMap<String, String> {
    let root = tempfile::tempdir().expect("a folder");
    let place = root.path().join("var/lib/rpm");
    fs::create_dir_all(&place).expect("creates");
    fs::copy(file, place.join(to)).expect("copies");
    let mut image = image_of(root.path());
    rpm::installed(&mut image)
        .expect("a sound database")
        .expect("a database")
}

#[test]
fn both_databases_hold_what_rpm_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let database = database(folder);
    let sqlite = database.join("rpmdb.sqlite");
    let wanted = by_rpm(&database, "sqlite");
    assert_eq!(wanted["part3"], "3:3.21-1.el9");
    assert_eq!(by_nodekiln(&sqlite, "rpmdb.sqlite"), wanted);

    // No rpm that is about writes Berkeley DB any more: its own loader does.
    let query = "SELECT lower(hex(blob)) FROM Packages ORDER BY hnum";
    let headers = run("sqlite3", &[text(&sqlite), query]);
    for page_size in [512, 4096, 65_536] {
        let mut dump = format!(
            "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={page_size}\nHEADER=END\n \
             00000000\n 2d010000\n"
        );
        for (number, header) in headers.lines().enumerate() {
            let key = u32::try_from(number + 1).expect("few").swap_bytes();
            write!(dump, " {key:08x}\n {header}\n").expect("a string");
        }
        dump += "DATA=END\n";
        let berkeley = folder.join(format!("bdb-{page_size}"));
        fs::create_dir(&berkeley).expect("creates");
        let file = folder.join("dump");
        fs::write(&file, dump).expect("writes");
        let packages = berkeley.join("Packages");
        run("db5.3_load", &["-f", text(&file), text(&packages)]);
        assert_eq!(by_rpm(&berkeley, "bdb_ro"), wanted, "{page_size}");
        assert_eq!(by_nodekiln(&packages, "Packages"), wanted, "{page_size}");
    }
}
