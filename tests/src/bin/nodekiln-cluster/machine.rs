//! The machine that may join: a site's, with a certificate for IAM Roles Anywhere.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_tests::cloud::World;
use nodekiln_tests::cloud::certificates::{Authority, Issued};
use nodekiln_tests::container_image;
use nodekiln_tests::joining::{ROLES_ANYWHERE, TRUST_ANCHOR, hybrid};
use nodekiln_tests::network::{POD_NETWORK, Place};

/// Its name as a node.
pub const NAME: &str = "node-1";
/// Its place in the network.
pub const PLACE: Place = Place {
    tap: "machine",
    mac: "52:54:00:10:01:11",
    address: Ipv4Addr::new(10, 1, 1, 11),
};

/// A site that the world trusts, and its machine's certificate.
pub struct Site {
    /// The world.
    pub world: World,
    issued: Issued,
}

impl Site {
    /// Makes it; the certificate is good for a month. What registries give lies in `images`.
    pub fn new(images: &Path) -> Self {
        let authority = Authority::new("the site");
        let issued = authority.node_for_a_month(NAME);
        let mut world = World::sample();
        world.trust(TRUST_ANCHOR, &authority);
        container_image::stock(&mut world, images);
        Self { world, issued }
    }

    /// Writes what the machine gets: its NodeConfig, and a cloud-config with its papers.
    /// `authority` is that of the services that answer to the names of AWS.
    pub fn write(&self, folder: &Path, authority: &Path) -> io::Result<()> {
        write(
            &folder.join("node-config.yaml"),
            &hybrid("", ROLES_ANYWHERE),
        )?;
        let mut config = "#cloud-config\nwrite_files:\n".to_owned();
        let authority = fs::read_to_string(authority)?;
        for (path, mode, content) in [
            ("/etc/iam/pki/server.pem", "0644", &*self.issued.certificate),
            ("/etc/iam/pki/server.key", "0600", &self.issued.key),
            ("/etc/cni/net.d/10-bridge.conflist", "0644", POD_NETWORK),
            // The last: beside those whom the image trusts already.
            ("/etc/ssl/certs/ca-certificates.crt", "0644", &authority),
        ] {
            config += &format!(
                "  - path: {path}\n    permissions: '{mode}'\n    encoding: b64\n    \
                 content: {}\n",
                STANDARD.encode(content)
            );
        }
        config += "    append: true\n";
        write(&folder.join("cloud-config.yaml"), &config)
    }
}

/// Writes a script that runs a command with `more`, words of the shell.
pub fn write_script(path: &Path, command: &Command, more: &str) -> io::Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
        .collect();
    // Who is not root finds the network in the user namespace of this process.
    let own = std::process::id();
    let enter = format!("nsenter --target={own} --user --preserve-credentials --");
    let words = words.join(" ");
    let text = format!(
        "#!/bin/sh\n\
         [ \"$(id -u)\" = 0 ] || exec {enter} {words} {more}\n\
         exec {words} {more}\n"
    );
    write(path, &text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Writes a file that nobody else can read.
fn write(path: &Path, content: &str) -> io::Result<()> {
    use io::Write as _;
    let mut options = fs::File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(content.as_bytes())
}
