//! rpm's database in Berkeley DB with packages that were added to it, judged by Berkeley DB
//! and by what rpm itself writes about the same packages.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use nodekiln::os::rpm::{Database, Recorded};
use nodekiln_tests::berkeley::{self, Files};
use nodekiln_tests::program::run;
use nodekiln_tests::rpm_package::{build_all, record};
use nodekiln_tests::small_base::text;
use nodekiln_tests::volumes::image_of;

/// Packages of the database.
const PACKAGES: u32 = 320;

/// Lines of a spec file for the package of this number.
fn package(number: u32) -> String {
    let mut relations = format!(
        "Provides: shared = {number} shared(x86-64)\nProvides: part({number}) = {number}:1\n\
         Requires: base part{} /bin/sh\nRequires(pre): bash\nRequires(post,preun): bash\n",
        number / 2
    );
    relations += match number % 10 {
        1 => "Recommends: (part1 if part2 else (part3 or part4 >= 2))\nConflicts: no < 1\n",
        2 => "Supplements: (part5 and part6)\nEnhances: (a unless b)\nObsoletes: old < 2\n",
        3 => "Suggests: part7\nRequires: (part8 if part9)\n",
        _ => "",
    };
    if number.is_multiple_of(10) {
        // Keys that no page holds, and such that differ only behind what a page holds.
        let long = "long".repeat(400);
        writeln!(relations, "Provides: {long}{number} {long} {number}{long}").expect("a string");
    }
    // From headers that fit into a page to such of many pages.
    let lines = if number % 50 == 7 { 3000 } else { number };
    let words = "some words of a description that is long\n".repeat(lines as usize + 1);
    let mut spec = format!(
        "%package -n part{number}\nSummary: x\n{relations}%description -n part{number}\n{words}\n\
         %files -n part{number}\n/usr/share/part{number}\n"
    );
    if number % 20 == 4 {
        write!(
            spec,
            "%filetriggerin -n part{number} -- /usr /lib /usr\ntrue\n\
             %filetriggerin -n part{number} -P 5 -- /lib /etc\ntrue\n\
             %transfiletriggerin -n part{number} -- /usr /usr\ntrue\n\
             %triggerin -n part{number} -- bash, zsh\ntrue\n\
             %triggerun -n part{number} -- bash\ntrue\n"
        )
        .expect("a string");
    }
    spec
}

/// Makes packages, and rpm's database in SQLite in which they are installed.
fn database(folder: &Path) -> PathBuf {
    let mut spec = "Name: base\nVersion: 1\nRelease: 1.el8\nSummary: x\nLicense: none\n\
                    BuildArch: noarch\n%description\nx\n%install\n"
        .to_owned();
    writeln!(
        spec,
        "for n in $(seq {PACKAGES}); do mkdir -p %{{buildroot}}/usr/share/part$n; \
         for f in index.html README $n; do echo x > %{{buildroot}}/usr/share/part$n/$f; done; done\n\
         %files\n%dir /"
    )
    .expect("a string");
    for number in 1..=PACKAGES {
        spec += &package(number);
    }
    let packages = build_all(folder, &spec);
    assert_eq!(packages.len(), PACKAGES as usize + 1);
    let database = folder.join("db");
    record(&database, &packages);
    database.join("rpmdb.sqlite")
}

/// Adds packages, whose headers these are, to the database in `folder`.
fn add(folder: &Path, headers: &[Vec<u8>]) -> Recorded {
    let work = tempfile::tempdir().expect("a folder");
    let root = work.path().join("root");
    fs::create_dir_all(root.join("var/lib")).expect("creates");
    run("cp", &["-a", text(folder), text(&root.join("var/lib/rpm"))]);
    let mut image = image_of(&root);
    let database = Database::read(&mut image).expect("a database");
    let recorded = database.with(headers).expect("can be added to");
    for (path, bytes) in &recorded.files {
        let name = path.file_name().expect("a name");
        fs::write(folder.join(String::from_utf8_lossy(name).as_ref()), bytes).expect("writes");
    }
    recorded
}

fn header(files: &Files, number: u32) -> Vec<u8> {
    let key = format!("{:08x}", number.swap_bytes());
    let hexadecimal = &files["Packages"][&key];
    let (pairs, _) = hexadecimal.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits")
    };
    pairs.iter().map(byte).collect()
}

fn assert_same(found: &Files, wanted: &Files) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>()
    );
    for (name, wanted) in wanted {
        let found = &found[name];
        for (key, value) in wanted {
            assert!(found.get(key) == Some(value), "{name}: {key}");
        }
        assert_eq!(found.len(), wanted.len(), "{name}");
    }
}

#[test]
fn what_is_added_is_what_rpm_would_have_written() {
    let work = tempfile::tempdir().expect("a folder");
    let work = work.path();
    let sqlite = database(work);
    let all = PACKAGES + 1;
    let whole = berkeley::of_sqlite(&sqlite, all);
    assert!(
        whole["Basenames"].contains_key("00"),
        "the folder / is there"
    );
    assert!(whole.values().all(|pairs| !pairs.is_empty()));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 9) as u32
    };
    for (page_size, first, most) in [
        (512, 1, 200),
        (4096, 2, 200),
        (4096, 290, 20),
        (65_536, 150, 150),
    ] {
        let folder = work.join(format!("bdb-{page_size}-{first}"));
        fs::create_dir(&folder).expect("creates");
        berkeley::load(&folder, &berkeley::of_sqlite(&sqlite, first), page_size);
        fs::write(folder.join("__db.001"), "memory").expect("writes");
        let mut there = first;
        while there < all {
            let next = all.min(there + 1 + draw() % most);
            let headers: Vec<_> = (there + 1..=next).map(|it| header(&whole, it)).collect();
            let recorded = add(&folder, &headers);
            assert_eq!(recorded.stale.len(), 1);
            assert_same(
                &berkeley::checked(&folder),
                &berkeley::of_sqlite(&sqlite, next),
            );
            there = next;
        }
        by_rpm(&folder);
        written_on(&folder, page_size, &whole);
    }
}

/// What rpm finds by each of the indexes.
fn by_rpm(folder: &Path) {
    let path = format!("--dbpath={}", text(folder));
    let rpm = |arguments: &[&str]| {
        let fixed = [
            "--define",
            "_db_backend bdb_ro",
            &path,
            "--qf",
            "%{name}\\n",
        ];
        run("rpm", &[&fixed[..], arguments].concat())
    };
    assert_eq!(rpm(&["-qa"]).lines().count(), PACKAGES as usize + 1);
    assert_eq!(rpm(&["-q", "part320", "base"]), "part320\nbase\n");
    let shared = rpm(&["-q", "--whatprovides", "shared"]);
    assert_eq!(shared.lines().count(), PACKAGES as usize);
    let long = format!("{}{}", "long".repeat(400), 170);
    assert_eq!(rpm(&["-q", "--whatprovides", &long]), "part170\n");
    assert_eq!(
        rpm(&["-q", "--whatrequires", "part155"]),
        "part310\npart311\n"
    );
    let recommending = rpm(&["-q", "--whatrecommends", "part3"]);
    assert_eq!(recommending.lines().count(), 32, "{recommending}");
}

/// Berkeley DB itself writes on the files that were written anew: it adds, puts other values
/// in place of those that are there, and removes.
fn written_on(folder: &Path, page_size: usize, whole: &Files) {
    let mut more = Files::new();
    for (name, pairs) in whole {
        // `Group` was a hash, and is a tree now.
        if name == "Group" {
            continue;
        }
        let values = pairs.values().rev().cycle();
        let pairs = pairs.keys().take(150).enumerate().map(|(number, key)| {
            match (number % 3, name.as_str()) {
                (0, _) => key.clone(),
                (_, "Packages") => format!("{:08x}", (9000 + number as u32).swap_bytes()),
                _ => format!("{key}61"),
            }
        });
        let pairs = pairs.zip(values.cloned());
        more.insert(name.clone(), pairs.collect());
    }
    berkeley::load(folder, &more, page_size);
    let mut wanted = whole.clone();
    for (name, pairs) in more {
        wanted.get_mut(&name).expect("the file").extend(pairs);
    }
    assert_same(&berkeley::checked(folder), &wanted);

    for (name, pairs) in &mut wanted {
        let kind = match name.as_str() {
            "Packages" => "DB_HASH",
            _ => "DB_BTREE",
        };
        // Every key that has an even number of digits of a kind: about the half.
        let is_removed = |key: &str| key.bytes().filter(|digit| *digit < b'5').count() % 2 == 0;
        let script = format!(
            "use Fcntl; use DB_File; my $kind = ${kind};\n\
             tie(my %keys, 'DB_File', $ARGV[0], O_RDWR, 0644, $kind) or die $!;\n\
             while (my $key = <STDIN>) {{ chomp $key; $key = pack('H*', $key);\n\
             exists $keys{{$key}} or die; delete $keys{{$key}}; }}\nuntie %keys;"
        );
        let keys: Vec<&str> = pairs.keys().map(String::as_str).collect();
        let removed: Vec<&str> = keys.into_iter().filter(|key| is_removed(key)).collect();
        let list = folder.join("removed");
        fs::write(&list, removed.join("\n")).expect("writes");
        let command = "exec perl -e \"$0\" \"$1\" <\"$2\"";
        let file = folder.join(name);
        run("sh", &["-c", command, &script, text(&file), text(&list)]);
        pairs.retain(|key, _| !is_removed(key));
    }
    assert_same(&berkeley::checked(folder), &wanted);
}
