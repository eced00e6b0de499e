//! Independent programs that check what nodekiln made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a program with Debian's disk tools in reach and gives its output.
///
/// # Panics
/// When it is not installed: a test that cannot check must fail.
pub fn output(program: &str, arguments: &[&str]) -> Output {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"))
}

/// Standard output and error together, as text.
pub fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    text
}

/// The same command, whose program is killed when the thread that starts it ends: not
/// even a test that is killed leaves it behind.
pub fn dying_with_us(command: &Command) -> Command {
    let mut dying = Command::new("setpriv");
    dying
        .args(["--pdeathsig=KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => dying.env(name, value),
            None => dying.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        dying.current_dir(folder);
    }
    dying
}

/// Runs a program that has to succeed; gives all that it printed.
///
/// # Panics
/// When it fails, with what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    let text = text(&output);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Largest pages of arm64 kernels: Red Hat's and Ubuntu's come with them too.
const PAGE: &str = "0x10000";

/// Fails unless the program at `path` is linked to nothing, and starts with every size of
/// pages that kernels for arm64 have.
///
/// # Panics
/// When it is not so, or readelf is missing.
pub fn assert_static_for_every_page(path: &Path) {
    let path = path.to_str().expect("paths of tests are UTF-8");
    let segments = run("readelf", &["-lW", path]);
    for kind in ["INTERP", "DYNAMIC"] {
        assert!(!segments.contains(kind), "it is not static: {segments}");
    }
    let loaded = segments.lines().map(str::trim);
    let loaded: Vec<&str> = loaded.filter(|line| line.starts_with("LOAD")).collect();
    assert!(!loaded.is_empty(), "{segments}");
    for line in loaded {
        assert!(line.ends_with(PAGE), "it needs smaller pages: {line}");
    }
}

/// Runs a script of `scripts/` that obtains something of others, with an argument if it is
/// not empty; gives the path that it prints.
///
/// # Panics
/// When it fails: a test that cannot judge must fail.
pub fn script(name: &str, argument: &str) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let output = Command::new(scripts.join(name))
        .args(Some(argument).filter(|argument| !argument.is_empty()))
        .output()
        .expect("the script runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/{name} {argument}: {said}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
}
