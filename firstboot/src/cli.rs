//! The command line, by hand: an argument parser would be a tenth of the program.

mod sources;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::live::{self, Refused};
use nodekiln_firstboot::datasource::{self, LinuxMachine};
use nodekiln_firstboot::node_config::{self, Parsed, Problem};
use nodekiln_firstboot::phases::reset::{self, Wish};
use nodekiln_firstboot::phases::{self, Error};
use nodekiln_firstboot::render::{self, Facts};
use nodekiln_firstboot::system::{self, Files as _, Folder, Linux, NewFile, Variables, is_current};
use nodekiln_firstboot::validation::{Skips, UnknownName};

const HELP: &str = "\
Joins a machine to an Amazon EKS cluster on its first boot.

Usage: firstboot COMMAND [OPTION...]

Commands:
  run      do everything that is left to do; what the system's unit calls
  check    say all that is wrong with a NodeConfig; needs no root and no network
  render   write a node's files below a folder and touch nothing else
  status   say where the work stands
  reset    take the node out again: stop it and remove what was written
  sources  say what each place holds where a NodeConfig can lie

Options of run and sources:
  --config FILE        take this NodeConfig and look no further
  --datasource NAME    ask this place alone: file, folder, cloud-init, nocloud,
                       config-drive, vmware or ec2
  --skip CHECK         of run: leave out a check before joining; may be given
                       again and again
  --json               of sources: as JSON

Options of check:
  --config FILE        the NodeConfig, or user data that holds one; - for input
  --json               the problems as JSON
  --live               look at this machine too, as before joining; the
                       NodeConfig is then found as run finds it
  --skip CHECK         leave a check of --live out; may be given again and again

Options of render:
  --config FILE        as above
  --root DIR           the folder to write below; no link in it is followed
  --facts FILE         what is known about the machine, as JSON
  --print-facts        print the facts that files are made from, write nothing

Options of status:
  --json               the whole journal as JSON
  --root DIR           of the machine whose root this is

Options of reset:
  --dry-run            print what would be done, and do nothing
  --keep-identity      leave the kubelet's keys and the registration with SSM

  -h, --help           this text
  -V, --version        the version

Exit codes: 0 done, 1 internal error, 2 bad input or usage, 3 not supported,
4 the machine lacks something, 6 may work when tried again, 7 a wrong image.
";

/// Exit code of wrong usage and bad input.
const BAD_INPUT: u8 = 2;
/// Exit code of what the machine does not give.
const ENVIRONMENT: u8 = 4;

/// Something to tell and the exit code that goes with it.
struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self {
            hint: Some("firstboot --help shows what can be given".into()),
            ..Self::new(BAD_INPUT, message)
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: error.exit_code(),
            message: error.chain(),
            hint: error.hint(),
        }
    }
}

/// Options, of which each command takes some.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    config: Option<PathBuf>,
    datasource: Option<PathBuf>,
    root: Option<PathBuf>,
    facts: Option<PathBuf>,
    print_facts: bool,
    json: bool,
    dry_run: bool,
    keep_identity: bool,
    live: bool,
    skip: Vec<String>,
}

impl Options {
    /// Reads what stands after the command; `allowed` names what it takes.
    fn parse(command: &str, arguments: &[OsString], allowed: &[&str]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_string_lossy();
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text.into_owned(), None),
            };
            if !allowed.contains(&name.as_str()) {
                return Err(Failure::usage(format!("{command} does not take {name:?}")));
            }
            let flag = match name.as_str() {
                "--json" => Some(&mut options.json),
                "--print-facts" => Some(&mut options.print_facts),
                "--dry-run" => Some(&mut options.dry_run),
                "--keep-identity" => Some(&mut options.keep_identity),
                "--live" => Some(&mut options.live),
                _ => None,
            };
            if let Some(flag) = flag {
                if inline.is_some() {
                    return Err(Failure::usage(format!("{name} takes no value")));
                }
                *flag = true;
                continue;
            }
            let value = match inline {
                Some(value) => PathBuf::from(value),
                None => rest
                    .next()
                    .map(PathBuf::from)
                    .ok_or_else(|| Failure::usage(format!("{name} needs a value")))?,
            };
            if name == "--skip" {
                options.skip.push(value.to_string_lossy().into_owned());
                continue;
            }
            let slot = match name.as_str() {
                "--config" => &mut options.config,
                "--datasource" => &mut options.datasource,
                "--root" => &mut options.root,
                _ => &mut options.facts,
            };
            if slot.replace(value).is_some() {
                return Err(Failure::usage(format!("{name} is given twice")));
            }
        }
        Ok(options)
    }
}

/// Runs the command and gives the exit code of the program.
pub fn run(arguments: &[OsString]) -> u8 {
    let outcome = dispatch(arguments);
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            let mut text = format!("error: {}\n", failure.message);
            if let Some(hint) = failure.hint {
                text.extend(["hint: ", &hint, "\n"]);
            }
            // There is nobody else to tell.
            let _ = io::stderr().write_all(text.as_bytes());
            failure.code
        }
    }
}

fn dispatch(arguments: &[OsString]) -> Result<u8, Failure> {
    let Some((command, rest)) = arguments.split_first() else {
        return Err(Failure::usage("no command is given"));
    };
    let command = command.to_string_lossy();
    let wants_help = rest
        .iter()
        .any(|argument| argument == "--help" || argument == "-h");
    match command.as_ref() {
        "--help" | "-h" | "help" => print(HELP),
        "--version" | "-V" => print(&format!("firstboot {}\n", env!("CARGO_PKG_VERSION"))),
        "run" | "check" | "render" | "status" | "reset" | "sources" if wants_help => print(HELP),
        "run" => {
            let allowed = ["--config", "--datasource", "--skip"];
            run_all(&Options::parse("run", rest, &allowed)?)
        }
        "check" => {
            let allowed = ["--config", "--json", "--live", "--skip"];
            check(&Options::parse("check", rest, &allowed)?)
        }
        "render" => {
            let allowed = ["--config", "--root", "--facts", "--print-facts"];
            render_files(&Options::parse("render", rest, &allowed)?)
        }
        "status" => status(&Options::parse("status", rest, &["--json", "--root"])?),
        "reset" => {
            let allowed = ["--dry-run", "--keep-identity"];
            reset(&Options::parse("reset", rest, &allowed)?)
        }
        "sources" => {
            let allowed = ["--config", "--datasource", "--json"];
            sources::run(&Options::parse("sources", rest, &allowed)?)
        }
        other => Err(Failure::usage(format!("there is no command {other:?}"))),
    }
}

/// Writes a result; a reader that has gone away has had enough.
fn print(text: &str) -> Result<u8, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            ENVIRONMENT,
            format!("writing the result: {error}"),
        )),
        _ => Ok(0),
    }
}

fn unknown(name: UnknownName) -> Failure {
    Failure {
        hint: Some(name.hint()),
        ..Failure::new(BAD_INPUT, name.to_string())
    }
}

fn run_all(options: &Options) -> Result<u8, Failure> {
    let skips = Skips::new(options.skip.iter().map(String::as_str)).map_err(unknown)?;
    let system = Linux::new();
    let search = sources::options(options)?;
    let machine = LinuxMachine::default();
    let outcome = match lock() {
        Ok(_lock) => phases::run(
            &system,
            &|| datasource::find(&search, &machine, &system),
            &Variables::from_process(),
            &skips,
        ),
        Err(error) => {
            phases::tell(&system, &error);
            Err(error)
        }
    };
    // What went wrong was told to the log and the console already.
    Ok(outcome.map_or_else(|error| error.exit_code(), |()| 0))
}

/// Keeps two runs from working at once; let go when the program ends, however.
fn lock() -> Result<File, Error> {
    const PATH: &str = "/var/lib/nodekiln/firstboot/lock";
    let failed = |source| system::Error::File {
        doing: "locking",
        path: PATH.into(),
        source,
    };
    let path = Path::new(PATH);
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    let file = File::options().create(true).append(true).open(path);
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Busy),
        Err(fs::TryLockError::Error(error)) => Err(failed(error).into()),
    }
}

fn load(options: &Options) -> Result<Result<Parsed, Vec<Problem>>, Failure> {
    let path = options
        .config
        .as_deref()
        .ok_or_else(|| Failure::usage("--config FILE is missing"))?;
    let limit = node_config::MAXIMUM_USER_DATA;
    let failed =
        |error: io::Error| Failure::new(BAD_INPUT, format!("reading {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let mut source: Box<dyn io::Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    io::Read::read_to_end(
        &mut io::Read::take(&mut source, limit as u64 + 1),
        &mut bytes,
    )
    .map_err(failed)?;
    if bytes.len() > limit {
        let message = format!("{} is larger than {limit} bytes", path.display());
        return Err(Failure::new(BAD_INPUT, message));
    }
    Ok(node_config::load(&bytes))
}

fn problems_of(loaded: &Result<Parsed, Vec<Problem>>) -> Vec<Problem> {
    match loaded {
        Ok(parsed) => parsed.check(),
        Err(problems) => problems.clone(),
    }
}

fn check(options: &Options) -> Result<u8, Failure> {
    if options.live {
        return check_live(options);
    }
    if !options.skip.is_empty() {
        return Err(Failure::usage("--skip needs --live"));
    }
    let problems = problems_of(&load(options)?);
    let code = if problems.is_empty() { 0 } else { BAD_INPUT };
    if options.json {
        let text = serde_json::json!({ "valid": problems.is_empty(), "problems": problems });
        print(&format!("{text:#}\n"))?;
    } else if problems.is_empty() {
        print("the NodeConfig is valid\n")?;
    } else {
        let path = options.config.as_deref().unwrap_or(Path::new("-"));
        return Err(invalid(path, &problems));
    }
    Ok(code)
}

fn check_live(options: &Options) -> Result<u8, Failure> {
    let checked = live::check(options.config.as_deref(), &options.skip);
    let checked = checked.map_err(|refused| match refused {
        Refused::Machine(error) => Failure::from(*error),
        Refused::Unknown(name) => unknown(name),
    })?;
    for remark in &checked.remarks {
        // A remark, not the result.
        let _ = writeln!(io::stderr(), "{remark}");
    }
    if options.json {
        print(&format!("{:#}\n", checked.report.json()))?;
    } else {
        print(&checked.report.table())?;
    }
    Ok(checked
        .report
        .verdict()
        .map_or_else(|refusal| refusal.exit_code(), |()| 0))
}

/// All problems of a file, one a line, as compilers write them.
fn invalid(path: &Path, problems: &[Problem]) -> Failure {
    let number = match problems.len() {
        1 => "a problem".to_owned(),
        number => format!("{number} problems"),
    };
    let mut message = format!("{} has {number}", path.display());
    for problem in problems {
        message.extend(["\n  ", &problem.to_string()]);
        if let Some(hint) = &problem.hint {
            message.extend(["\n    hint: ", hint]);
        }
    }
    Failure::new(BAD_INPUT, message)
}

fn render_files(options: &Options) -> Result<u8, Failure> {
    let facts = read_facts(options)?;
    if options.print_facts {
        let text = serde_json::to_string_pretty(&facts)
            .map_err(|error| Failure::new(1, error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    let root = options
        .root
        .as_deref()
        .ok_or_else(|| Failure::usage("--root DIR is missing"))?;
    let loaded = load(options)?;
    let problems = problems_of(&loaded);
    let parsed = match loaded {
        Ok(parsed) if problems.is_empty() => parsed,
        _ => {
            return Err(invalid(
                options.config.as_deref().unwrap_or(Path::new("-")),
                &problems,
            ));
        }
    };
    let config = node_config::with_defaults(parsed.config);
    let files = render::render(&config, &facts).map_err(Error::Render)?;
    let folder = Folder::new(root);
    let mut listing = String::new();
    let mut new = Vec::new();
    for file in &files {
        let current =
            is_current(&folder, &file.path, &file.content, file.mode).map_err(Error::System)?;
        let word = if current { "kept" } else { "wrote" };
        listing.extend([word, " ", &file.path, "\n"]);
        if !current {
            new.push(NewFile {
                path: &file.path,
                content: &file.content,
                mode: file.mode,
            });
        }
    }
    folder.write_all(&new).map_err(Error::System)?;
    print(&listing)
}

/// The facts that are given, or those of a machine to show files for.
fn read_facts(options: &Options) -> Result<Facts, Failure> {
    const LIMIT: usize = 1 << 20;
    let Some(path) = &options.facts else {
        if !options.print_facts {
            let facts = Facts::default();
            let text = format!(
                "no --facts are given: files are for kubelet {}, containerd {} on {}\n",
                facts.kubelet, facts.containerd, facts.os
            );
            // A remark, not the result.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        return Ok(Facts::default());
    };
    let refuse = |text: String| Failure::new(BAD_INPUT, format!("{}: {text}", path.display()));
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let bytes = Folder::new(folder.unwrap_or(Path::new(".")))
        .read(&format!("/{name}"), LIMIT)
        .map_err(|error| refuse(error.to_string()))?
        .ok_or_else(|| refuse("does not exist".into()))?;
    serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))
}

/// Takes the node out, telling each act before it is done.
fn reset(options: &Options) -> Result<u8, Failure> {
    let system = Linux::new();
    let wish = Wish {
        keep_identity: options.keep_identity,
    };
    let _lock = if options.dry_run { None } else { Some(lock()?) };
    let acts = reset::plan(&system, wish)?;
    let remarks = reset::remarks(&system, wish)?;
    for act in &acts {
        print(&format!("{act}\n"))?;
        if !options.dry_run {
            reset::carry_out(&system, act)?;
        }
    }
    for remark in remarks {
        // For people; the acts are the result.
        let _ = writeln!(io::stderr(), "note: {remark}");
    }
    Ok(0)
}

fn status(options: &Options) -> Result<u8, Failure> {
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    let status = phases::status(&Folder::new(root)).map_err(Error::System)?;
    if options.json {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|error| Failure::new(1, error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    print(&status.to_string())
}
