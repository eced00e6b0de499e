//! The reader of rpm's databases against rpm itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln::disk::raw::RawFile;
use nodekiln::os::{Image, rpm};
use nodekiln::plan::Target;
use nodekiln::volume::{self, Access, Timestamp};
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::text;

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
    let file = folder.join("base.spec");
    fs::write(&file, spec).expect("writes");
    let top = format!("_topdir {}", text(&folder.join("top")));
    run(
        "rpmbuild",
        &["-bb", "--quiet", "--define", &top, text(&file)],
    );
    let database = folder.join("db");
    fs::create_dir(&database).expect("creates");
    let packages = fs::read_dir(folder.join("top/RPMS/noarch")).expect("packages");
    let packages: Vec<PathBuf> = packages
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(packages.len(), PACKAGES + 1);
    let path = format!("--dbpath={}", text(&database));
    let mut arguments = vec!["-i", "--justdb", "--nodeps", "--ignorearch", &path];
    arguments.extend(packages.iter().map(|package| text(package)));
    run("rpm", &arguments);
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
fn by_nodekiln(folder: &Path, file: &Path, to: &str) -> BTreeMap<String, String> {
    let root = folder.join("root");
    let place = root.join("var/lib/rpm");
    fs::remove_dir_all(&root).ok();
    fs::create_dir_all(&place).expect("creates");
    fs::copy(file, place.join(to)).expect("copies");
    let disk = folder.join("root.ext4");
    fs::remove_file(&disk).ok();
    run(
        "mke2fs",
        &["-q", "-t", "ext4", "-d", text(&root), text(&disk), "64M"],
    );
    let disk = RawFile::read_only(fs::File::open(&disk).expect("opens")).expect("a disk");
    let volume =
        volume::open(Arc::new(disk), Access::Read, Timestamp::default()).expect("a file system");
    let mut image = Image::new([(Target::Root, volume)].into()).expect("has a root");
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
    assert_eq!(by_nodekiln(folder, &sqlite, "rpmdb.sqlite"), wanted);

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
        assert_eq!(
            by_nodekiln(folder, &packages, "Packages"),
            wanted,
            "{page_size}"
        );
    }
}
