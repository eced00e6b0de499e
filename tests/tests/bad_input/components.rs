//! Components that are not what was asked for: wrong, gone, cut off, hostile.

use std::fs;
use std::io::Read as _;

use nodekiln_tests::command::Workshop;
use nodekiln_tests::program::run;
use nodekiln_tests::server::{Answer, Server};
use nodekiln_tests::small_base::{program, text};

const OUTPUTS: &str = "  outputs: [{format: raw}]\n";

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A workshop whose kubelet comes from `source`.
fn workshop(source: &str) -> Workshop {
    let workshop = Workshop::new();
    workshop.write_profile_with("base.raw", source, OUTPUTS);
    workshop
}

#[test]
fn a_local_component_with_another_hash_is_refused() {
    let wrong = "0".repeat(64);
    let workshop = workshop(&format!("{{path: components/kubelet, sha256: {wrong}}}"));
    workshop.refused(2, &["components/kubelet", "sha256", "hint:"]);
}

#[test]
fn a_local_component_that_changed_after_the_lock_is_refused() {
    let workshop = Workshop::new();
    workshop.lock().succeeded();
    fs::remove_dir_all(workshop.path("cache")).expect("removes");
    fs::write(workshop.path("components/kubelet"), program(5000, 9)).expect("writes");
    workshop.refused_by(&["fetch", "--offline"], 2, &["kubelet", "lock", "hint:"]);
}

/// A server with TLS, and a way to lock that trusts it.
fn tls<const N: usize>(workshop: &Workshop, answers: [(&str, Answer); N]) -> (Server, [String; 3]) {
    let (server, authority) = Server::start_tls(workshop.folder(), answers);
    let lock = ["lock", "--ca-file", text(&authority)].map(ToOwned::to_owned);
    (server, lock)
}

#[test]
fn a_download_with_another_hash_is_refused() {
    let kubelet = program(100_000, 3);
    let workshop = Workshop::new();
    let (server, lock) = tls(&workshop, [("/kubelet", Answer::File(kubelet.clone()))]);
    let lock = lock.each_ref().map(String::as_str);
    let source = |hash: &str| format!("{{url: {}/kubelet, sha256: {hash}}}", server.url);
    workshop.write_profile_with("base.raw", &source(&"0".repeat(64)), OUTPUTS);
    workshop.refused_after(
        &lock,
        5,
        &["/kubelet", "sha256", &sha256(&kubelet), "hint:"],
    );
    // A server whose authority nobody named.
    workshop.refused_after(&["lock"], 5, &["certificate", "--ca-file"]);
    // And the right one is taken: it was the hash that was refused.
    workshop.write_profile_with("base.raw", &source(&sha256(&kubelet)), OUTPUTS);
    workshop.nodekiln(&lock).succeeded();
    assert!(server.requests() >= 2, "{}", server.requests());
}

#[test]
fn a_url_without_tls_is_refused_before_anything_is_asked() {
    let server = Server::start([("/kubelet", Answer::File(program(1000, 3)))]);
    let hash = "0".repeat(64);
    let workshop = workshop(&format!("{{url: {}/kubelet, sha256: {hash}}}", server.url));
    workshop.refused_after(&["lock"], 2, &["profile.yaml:11:22", "https", "hint:"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_file_that_the_server_does_not_have_is_named() {
    let workshop = Workshop::new();
    let (server, lock) = tls(&workshop, []);
    let hash = "0".repeat(64);
    let source = format!("{{url: {}/kubelet, sha256: {hash}}}", server.url);
    workshop.write_profile_with("base.raw", &source, OUTPUTS);
    let lock = lock.each_ref().map(String::as_str);
    workshop.refused_after(&lock, 5, &["/kubelet", "404", "hint:"]);
    assert_eq!(server.requests(), 1, "it would not be there the next time");
}

#[test]
fn a_server_that_breaks_off_is_tried_again_and_then_named() {
    let workshop = Workshop::new();
    let kubelet = program(100_000, 3);
    let hash = sha256(&kubelet);
    // The first byte of the content never comes.
    let (server, lock) = tls(&workshop, [("/kubelet", Answer::BreakOff(kubelet, 0))]);
    let source = format!("{{url: {}/kubelet, sha256: {hash}}}", server.url);
    workshop.write_profile_with("base.raw", &source, OUTPUTS);
    let lock = lock.each_ref().map(String::as_str);
    workshop.refused_after(&lock, 6, &["/kubelet"]);
    assert!(server.requests() > 1, "{}", server.requests());
}

/// Makes archives with names that tar itself would not write.
const PYTHON: &str = r#"
import io, sys, tarfile
out, what = sys.argv[1:]
def member(name, kind=tarfile.REGTYPE, link="", body=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(body), 0o755
    archive.addfile(info, io.BytesIO(body))
program = open("components/kubelet", "rb").read()
with tarfile.open(out, "w:gz", compresslevel=1) as archive:
    if what == "dots": member("../../etc/cron.d/evil", body=b"x")
    if what == "absolute": member("/etc/cron.d/evil", body=b"x")
    if what == "link": member("kubelet", tarfile.SYMTYPE, "../../../etc/shadow")
    if what == "absolute-link": member("kubelet", tarfile.SYMTYPE, "/etc/shadow")
    if what == "hard-link": member("kubelet", tarfile.LNKTYPE, "../../etc/shadow")
    if what == "device": member("kubelet", tarfile.CHRTYPE)
    if what == "many":
        for number in range(100_002): member(str(number))
    if what == "circle":
        member("kubelet", tarfile.SYMTYPE, "other")
        member("other", tarfile.SYMTYPE, "kubelet")
    if what == "missing": member("kubectl", body=program)
    elif what not in ("link", "absolute-link", "hard-link", "device", "circle"):
        member("kubelet", body=program)
"#;

fn archive(workshop: &Workshop, what: &str) {
    let mut command = std::process::Command::new("python3");
    command.args(["-c", PYTHON, "components/bundle.tar.gz", what]);
    workshop.furnish(&mut command);
    let made = command.output().expect("python3 is needed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[test]
fn hostile_archives_are_refused_as_a_whole() {
    let workshop = workshop("{path: components/bundle.tar.gz, member: kubelet}");
    archive(&workshop, "good");
    workshop.lock().succeeded();
    fs::remove_file(workshop.path("nodekiln.lock")).expect("removes");
    for (what, words) in [
        ("dots", "'../../etc/cron.d/evil' leads out"),
        ("absolute", "/etc/cron.d/evil"),
        ("link", "leads out of it, to '../../../etc/shadow'"),
        ("absolute-link", "leads out of it, to '/etc/shadow'"),
        ("hard-link", "leads out of it, to '../../etc/shadow'"),
        ("device", "'kubelet' is a device or pipe"),
        ("many", "more than 100000 entries"),
        ("circle", "kubelet"),
        ("missing", "no member 'kubelet'"),
    ] {
        archive(&workshop, what);
        workshop.refused(5, &["bundle.tar.gz", words, "hint:"]);
    }
}

#[test]
fn a_truncated_archive_is_refused() {
    let workshop = workshop("{path: components/bundle.tar.gz, member: kubelet}");
    archive(&workshop, "good");
    let bundle = workshop.path("components/bundle.tar.gz");
    let size = fs::metadata(&bundle).expect("is there").len();
    for left in [size / 2, size - 4, 5] {
        nodekiln_tests::damage::resize(&bundle, left);
        workshop.refused(5, &["bundle.tar.gz", "damaged", "hint:"]);
    }
}

#[test]
fn a_bomb_is_refused_before_it_fills_anything() {
    let workshop = workshop("{path: components/bomb.tar.zst, member: kubelet}");
    // 512 MiB of zeros in some 20 KB, before the member that is wanted.
    let bomb = workshop.path("components/bomb.tar.zst");
    let mut header = [0_u8; 512];
    header[..4].copy_from_slice(b"zero");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", 512_u64 << 20).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..263].copy_from_slice(b"ustar\0");
    header[263..265].copy_from_slice(b"00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let file = fs::File::create(&bomb).expect("creates");
    let mut encoder = zstd::Encoder::new(file, 1).expect("starts");
    encoder.long_distance_matching(true).expect("known");
    std::io::copy(&mut &header[..], &mut encoder).expect("writes");
    std::io::copy(&mut std::io::repeat(0).take(512 << 20), &mut encoder).expect("writes");
    encoder.finish().expect("ends");
    assert!(fs::metadata(&bomb).expect("is there").len() < 2 << 20);
    workshop.refused(5, &["bomb.tar.zst", "no honest archive", "hint:"]);
    let store = run("du", &["-sm", text(&workshop.path("cache"))]);
    let megabytes: u64 = store
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    assert!(megabytes < 64, "{store}");
}
