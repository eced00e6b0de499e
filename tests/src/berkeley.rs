//! rpm's database in Berkeley DB, made and looked at by Berkeley DB's own programs. No rpm
//! that is about writes it any more: what it holds comes from rpm's database in SQLite.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::program::run;
use crate::small_base::text;

/// The indexes beside `Packages` (rpm's `lib/rpmdb.c`).
pub const INDEXES: [&str; 18] = [
    "Basenames",
    "Conflictname",
    "Dirnames",
    "Enhancename",
    "Filetriggername",
    "Group",
    "Installtid",
    "Name",
    "Obsoletename",
    "Providename",
    "Recommendname",
    "Requirename",
    "Sha1header",
    "Sigmd5",
    "Suggestname",
    "Supplementname",
    "Transfiletriggername",
    "Triggername",
];

/// Keys and values, in hexadecimal.
pub type Pairs = BTreeMap<String, String>;

/// What each file holds.
pub type Files = BTreeMap<String, Pairs>;

/// A number as Berkeley DB's dumps show it.
fn number(number: &str) -> String {
    let number: u32 = number.parse().expect("a number");
    format!("{:08x}", number.swap_bytes())
}

/// What the database in SQLite would be in Berkeley DB, as far as the package `last`.
///
/// # Panics
/// When sqlite3 fails or is missing.
pub fn of_sqlite(sqlite: &Path, last: u32) -> Files {
    let rows = |query: &str| run("sqlite3", &[text(sqlite), query]);
    let mut files = Files::new();
    let query = format!("SELECT hnum, lower(hex(blob)) FROM Packages WHERE hnum <= {last}");
    let mut packages = Pairs::new();
    for row in rows(&query).lines() {
        let (key, header) = row.split_once('|').expect("two columns");
        packages.insert(number(key), header.to_owned());
    }
    packages.insert(number("0"), number(&last.to_string()));
    files.insert("Packages".to_owned(), packages);
    for index in INDEXES {
        let query = format!(
            "SELECT lower(hex(key)), hnum, idx FROM '{index}' WHERE hnum <= {last} ORDER BY rowid"
        );
        let mut keys = Pairs::new();
        for row in rows(&query).lines() {
            let columns: Vec<&str> = row.split('|').collect();
            // A key without a byte is not possible there.
            let key = if columns[0].is_empty() {
                "00"
            } else {
                columns[0]
            };
            let places = keys.entry(key.to_owned()).or_default();
            *places += &number(columns[1]);
            *places += &number(columns[2]);
        }
        files.insert(index.to_owned(), keys);
    }
    files
}

/// Makes the files in `folder`; the index `Group` as a hash, as a very old rpm did.
///
/// # Panics
/// When db5.3_load fails or is missing.
pub fn load(folder: &Path, files: &Files, page_size: usize) {
    for (name, pairs) in files {
        let kind = match name.as_str() {
            "Packages" | "Group" => "hash",
            _ => "btree",
        };
        let mut dump = format!(
            "VERSION=3\nformat=bytevalue\ntype={kind}\ndb_pagesize={page_size}\nHEADER=END\n"
        );
        for (key, value) in pairs {
            write!(dump, " {key}\n {value}\n").expect("a string");
        }
        dump += "DATA=END\n";
        let file = folder.join(format!("{name}.dump"));
        fs::write(&file, dump).expect("writes");
        run("db5.3_load", &["-f", text(&file), text(&folder.join(name))]);
        fs::remove_file(file).expect("removes");
    }
}

/// Has Berkeley DB check every file of `folder`, and gives what it finds in them.
///
/// # Panics
/// When a file is damaged, or Berkeley DB's programs are missing.
pub fn checked(folder: &Path) -> Files {
    let names = INDEXES.iter().chain(&["Packages"]);
    let there = names.filter(|name| folder.join(name).exists());
    let dumped = |name: &&str| {
        let file = folder.join(name);
        run("db5.3_verify", &[text(&file)]);
        let dump = run("db5.3_dump", &[text(&file)]);
        let data = dump.split_once("HEADER=END\n").expect("a header").1;
        let lines: Vec<&str> = data
            .lines()
            .filter_map(|line| line.strip_prefix(' '))
            .collect();
        let (pairs, rest) = lines.as_chunks::<2>();
        assert!(rest.is_empty(), "{name}");
        let pairs = pairs
            .iter()
            .map(|[key, value]| ((*key).to_owned(), (*value).to_owned()));
        ((*name).to_owned(), pairs.collect())
    };
    there.map(dumped).collect()
}

/// Makes rpm's database in SQLite that is in `folder` one in Berkeley DB.
///
/// # Panics
/// As [`of_sqlite`] and [`load`].
pub fn convert(folder: &Path, page_size: usize) {
    let sqlite = folder.join("rpmdb.sqlite");
    let last = run(
        "sqlite3",
        &[text(&sqlite), "SELECT max(hnum) FROM Packages"],
    );
    let files = of_sqlite(&sqlite, last.trim().parse().expect("a number"));
    for entry in fs::read_dir(folder).expect("reads") {
        fs::remove_file(entry.expect("an entry").path()).expect("removes");
    }
    load(folder, &files, page_size);
}
