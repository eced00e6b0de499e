use super::*;
use crate::image_path::ImagePath;
use crate::lock::model::LockedMember;
use crate::profile::model::{Architecture, ComponentName};
use crate::progress::Silent;
use crate::store::{FetchOptions, Fetcher, Store};

struct World {
    folder: tempfile::TempDir,
    fetcher: Fetcher,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let offline = FetchOptions {
            offline: true,
            ..FetchOptions::default()
        };
        Self {
            folder,
            fetcher: Fetcher::new(&offline).expect("nothing to prepare"),
        }
    }

    fn store(&self, name: &str) -> Store {
        Store::open(self.folder.path().join(name)).expect("writable")
    }

    fn file(&self, name: &str, content: &[u8]) -> LockedFile {
        std::fs::write(self.folder.path().join(name), content).expect("own");
        let (sha256, size) = self
            .store("scratch")
            .add_reader(&mut &content[..], None, u64::MAX)
            .expect("added");
        LockedFile {
            origin: Origin::Path(name.to_owned()),
            sha256,
            size,
            trust: "local file".to_owned(),
        }
    }

    /// A small disk, pinned as a lock pins it.
    fn base(&self) -> LockedFile {
        std::fs::write(self.folder.path().join("base.raw"), vec![1; 1 << 16]).expect("own");
        let (store, folder) = (self.store("scratch"), self.folder.path());
        let sources = StoreSources::new(&store, &self.fetcher, folder, None, &Silent);
        let found = sources
            .local_base(Path::new("base.raw"), None, false)
            .expect("a disk");
        LockedFile {
            origin: Origin::Path("base.raw".to_owned()),
            sha256: found.image.sha256,
            size: found.image.size,
            trust: "local file".to_owned(),
        }
    }

    fn fetch(&self, store: &Store, locked: &LockedProfile) -> Result<()> {
        let folder = self.folder.path();
        let sources = StoreSources::new(store, &self.fetcher, folder, None, &Silent);
        fetch(locked, &Base::default(), &sources)
    }
}

fn member(content: &LockedFile, destination: &str) -> LockedMember {
    LockedMember {
        sha256: content.sha256,
        size: content.size,
        destination: ImagePath::new(destination).expect("absolute"),
        mode: "0755".to_owned(),
    }
}

fn locked(base: LockedFile, archive: LockedFile, program: &LockedFile) -> LockedProfile {
    let members = BTreeMap::from([("bin/ctr".to_owned(), member(program, "/usr/bin/ctr"))]);
    let component = LockedComponent {
        file: archive,
        members,
    };
    LockedProfile {
        inputs: base.sha256,
        base_inputs: base.sha256,
        architecture: Architecture::X86_64,
        base,
        components: BTreeMap::from([(ComponentName::Containerd, component)]),
        packages: Vec::new(),
    }
}

fn archive(path: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    builder
        .append_data(&mut header, path, content)
        .expect("memory");
    builder.into_inner().expect("memory")
}

#[test]
fn copies_files_and_unpacks_members() {
    let world = World::new();
    let program = world.file("program", b"program");
    let archive = world.file("containerd.tar", &archive("bin/ctr", b"program"));
    let locked = locked(world.base(), archive, &program);
    let store = world.store("store");
    world.fetch(&store, &locked).expect("all is local");
    assert!(store.contains(&program.sha256));
    assert!(store.contains(&locked.base.sha256));
    // Once everything is there, nothing of the outside is needed.
    for name in ["base.raw", "containerd.tar"] {
        std::fs::remove_file(world.folder.path().join(name)).expect("own");
    }
    world.fetch(&store, &locked).expect("nothing to do");
}

#[test]
fn names_everything_that_is_missing() {
    let world = World::new();
    let program = world.file("program", b"program");
    let mut wrong = world.file("containerd.tar", &archive("bin/other", b"program"));
    let mut base = world.base();
    base.origin = Origin::Url("https://host.example/base.qcow2".to_owned());
    let store = world.store("store");
    let error = world
        .fetch(&store, &locked(base.clone(), wrong.clone(), &program))
        .expect_err("offline");
    assert_eq!(error.class(), crate::Class::Environment);
    assert_eq!(error.others().len(), 1, "the component is wrong, too");
    assert_eq!(error.others()[0].class(), crate::Class::Dependency);
    wrong.sha256 = base.sha256;
    wrong.origin = Origin::Path("absent".to_owned());
    let error = world
        .fetch(&store, &locked(base, wrong, &program))
        .expect_err("offline");
    assert_eq!(error.others()[0].class(), crate::Class::Input);
}

#[test]
fn a_changed_local_file_is_wrong_input() {
    let world = World::new();
    let program = world.file("program", b"program");
    let base = world.base();
    let archive = world.file("containerd.tar", &archive("bin/ctr", b"program"));
    std::fs::write(world.folder.path().join("base.raw"), vec![2; 1 << 16]).expect("own");
    let error = world
        .fetch(&world.store("store"), &locked(base, archive, &program))
        .expect_err("changed");
    assert_eq!(error.class(), crate::Class::Input);
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("`nodekiln lock`"))
    );
}

#[test]
fn says_which_packages_moved_on() {
    let packages = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let text = changes(
        &packages(&[("runc", "1.1"), ("gone", "1"), ("same", "1")]),
        &packages(&[("runc", "1.2"), ("same", "1")]),
    );
    assert_eq!(text, "gone 1 is now none, runc 1.1 is now 1.2");
    assert!(changes(&packages(&[]), &packages(&[])).contains("the same"));
}
