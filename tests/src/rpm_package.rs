//! rpms, keys that sign them, and images that have some, made by rpm's own tools.

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::run;
use crate::small_base::text;

/// Where the database of an image is.
pub const DATABASE: &str = "var/lib/rpm";

/// The line of a preamble that asks for a package for another machine.
const FOREIGN: &str = "BuildArch: aarch64";

/// Makes an rpm out of the lines of a spec file; `install` is a shell script that fills
/// the folder `$1`. Gives its file.
///
/// # Panics
/// When rpmbuild fails or is missing.
pub fn build(folder: &Path, name: &str, preamble: &str, install: &str, files: &str) -> PathBuf {
    // A package for another machine cannot be asked for in the spec file.
    let (architecture, build) = if preamble.contains(FOREIGN) {
        ("aarch64", "")
    } else {
        ("noarch", "BuildArch: noarch\n")
    };
    let preamble = &preamble.replace(FOREIGN, "");
    let field = |wanted: &str, usual: &str| {
        let given = preamble.lines().any(|line| line.starts_with(wanted));
        if given {
            String::new()
        } else {
            format!("{wanted}{usual}\n")
        }
    };
    let spec = format!(
        "Name: {name}\n{}{}{}Summary: made for a test\nLicense: none\n{preamble}\n%description\nIt does \
         nothing.\n%install\nset -- %{{buildroot}}\n{install}\n{files}\n",
        field("Version: ", "1.0"),
        field("Release: ", "1.el9"),
        build,
    );
    let file = folder.join(format!("{name}.spec"));
    fs::write(&file, spec).expect("writes");
    let top = format!("_topdir {}", text(&folder.join(format!("{name}.top"))));
    let target = format!("--target={architecture}");
    let arguments = ["-bb", "--quiet", target.as_str(), "--define", &top];
    let more = ["--define", "_build_id_links none", text(&file)];
    run("rpmbuild", &[&arguments[..], &more].concat());
    let made = walkdir::WalkDir::new(folder.join(format!("{name}.top/RPMS")));
    let made = made
        .into_iter()
        .map(|entry| entry.expect("an entry").into_path());
    let mut made = made.filter(|path| path.extension().is_some_and(|end| end == "rpm"));
    made.next().expect("an rpm")
}

/// A publisher, who has a key.
#[derive(Debug)]
pub struct Publisher {
    home: PathBuf,
}

impl Publisher {
    /// With a key of this kind, as gpg calls it, in `folder`.
    ///
    /// # Panics
    /// When gpg fails or is missing.
    pub fn new(folder: &Path, kind: &str) -> Self {
        let publisher = Self {
            home: folder.join(format!("gpg-{kind}")),
        };
        fs::create_dir(&publisher.home).expect("creates");
        run("chmod", &["700", text(&publisher.home)]);
        let user = "Publisher <publisher@example.com>";
        publisher.gpg(&[
            "--passphrase",
            "",
            "--quick-gen-key",
            user,
            kind,
            "sign",
            "never",
        ]);
        publisher
    }

    fn gpg(&self, arguments: &[&str]) -> String {
        let fixed = [
            "--homedir",
            text(&self.home),
            "--batch",
            "--quiet",
            "--no-permission-warning",
        ];
        run("gpg", &[&fixed[..], arguments].concat())
    }

    /// The public key, in a file.
    ///
    /// # Panics
    /// When gpg fails.
    pub fn key(&self) -> PathBuf {
        let file = self.home.with_extension("asc");
        fs::write(&file, self.gpg(&["--export", "--armor"])).expect("writes");
        file
    }

    /// Signs a package in its place.
    ///
    /// # Panics
    /// When rpmsign fails or is missing.
    pub fn sign(&self, package: &Path) {
        let home = format!("_gpg_path {}", text(&self.home));
        let arguments = [
            "--define",
            &home,
            "--define",
            "_gpg_name Publisher",
            "--define",
            "__gpg /usr/bin/gpg",
            "--addsign",
            text(package),
        ];
        run("rpmsign", &arguments);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        run("gpgconf", &["--homedir", text(&self.home), "--kill", "all"]);
    }
}

/// Makes all packages of a spec file, for no machine of its own, in `folder`. Gives their
/// files, by name.
///
/// # Panics
/// When rpmbuild fails or is missing.
pub fn build_all(folder: &Path, spec: &str) -> Vec<PathBuf> {
    let file = folder.join("all.spec");
    fs::write(&file, spec).expect("writes");
    let top = folder.join("all.top");
    let define = format!("_topdir {}", text(&top));
    let fixed = ["-bb", "--quiet", "--define", &define];
    run("rpmbuild", &[&fixed[..], &[text(&file)]].concat());
    let made = fs::read_dir(top.join("RPMS/noarch")).expect("packages");
    let mut made: Vec<PathBuf> = made.map(|entry| entry.expect("an entry").path()).collect();
    made.sort();
    made
}

/// Makes rpm's database in the folder `database` one in which `packages` are installed, in
/// their order; their files are not laid.
///
/// # Panics
/// When rpm fails or is missing.
pub fn record(database: &Path, packages: &[PathBuf]) {
    fs::create_dir_all(database).expect("creates");
    let path = format!("--dbpath={}", text(database));
    let fixed = [path.as_str(), "-i", "--justdb", "--nodeps", "--ignorearch"];
    let packages: Vec<&str> = packages.iter().map(|package| text(package)).collect();
    run("rpm", &[&fixed[..], &["--noorder"], &packages].concat());
}

/// Gives the tree of an image rpm's database, with `packages` in it, and lays their files.
///
/// # Panics
/// When rpm fails or is missing.
pub fn install(tree: &Path, packages: &[PathBuf]) {
    record(&tree.join(DATABASE), packages);
    for package in packages {
        let lay = "rpm2cpio \"$0\" | (cd \"$1\" && cpio -idm --quiet)";
        run("sh", &["-c", lay, text(package), text(tree)]);
    }
    fs::write(
        tree.join("etc/os-release"),
        "ID=rhel\nVERSION_ID=\"9.4\"\nPRETTY_NAME=\"Red Hat Enterprise Linux 9.4 (small)\"\n",
    )
    .expect("writes");
}

/// Asks rpm about the tree of an image.
///
/// # Panics
/// When it fails.
pub fn rpm(tree: &Path, arguments: &[&str]) -> String {
    let root = format!("--root={}", text(tree));
    let fixed = [root.as_str(), "--dbpath=/var/lib/rpm"];
    run("rpm", &[&fixed[..], arguments].concat())
}
