//! The files of a node, read by programs that others wrote.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use crate::unit_file::verify;
use crate::{firstboot, node_config, pipe, text, tree};

#[test]
fn what_is_rendered_is_read_by_others() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, node_config("--v=4")).unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let arguments = [
        "render",
        "--root",
        root.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    for containerd in ["1.6.20", "2.1.0"] {
        let facts = folder.path().join("facts.json");
        fs::write(
            &facts,
            format!(r#"{{"os": "debian", "kubelet": "1.34.1", "containerd": "{containerd}"}}"#),
        )
        .unwrap();
        let all = [&arguments[..], &["--facts", facts.to_str().unwrap()]].concat();
        let output = firstboot(&all);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let first = tree(&root, &[]);
        // Python's own readers of JSON and TOML.
        let script = "
import json, pathlib, sys, tomllib
root = pathlib.Path(sys.argv[1])
for path in ['etc/kubernetes/kubelet/config.json', 'etc/kubernetes/kubelet/config.json.d/00-nodeadm.conf',
             'etc/eks/image-credential-provider/config.json']:
    json.loads((root / path).read_text())
toml = tomllib.loads((root / 'etc/containerd/config.toml').read_text())
merged = [toml] + [tomllib.loads(path.read_text()) for path in root.glob('etc/containerd/config.d/*.toml')]
assert any(one.get('debug', {}).get('level') == 'debug' for one in merged), merged
plugins = toml['plugins']
if toml['version'] == 2:
    cri = plugins['io.containerd.grpc.v1.cri']
    print(2, cri['sandbox_image'], cri['containerd']['runtimes']['runc']['options']['SystemdCgroup'])
else:
    print(toml['version'], plugins['io.containerd.cri.v1.images']['pinned_images']['sandbox'],
          plugins['io.containerd.cri.v1.runtime']['containerd']['runtimes']['runc']['options']['SystemdCgroup'])
";
        let read = pipe("python3", &["-", root.to_str().unwrap()], script.as_bytes());
        assert!(read.status.success(), "{}", text(&read.stderr));
        let schema = if containerd.starts_with('1') { 2 } else { 3 };
        let image = "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.5";
        assert_eq!(text(&read.stdout), format!("{schema} {image} True\n"));
        for (path, (mode, _, _, content)) in &first {
            let expected = if content.is_empty() { 0o755 } else { 0o644 };
            assert!(*mode == expected, "{path} {mode:o}");
        }
        let again = firstboot(&all);
        assert!(
            text(&again.stdout)
                .lines()
                .all(|line| line.starts_with("kept "))
        );
        assert_eq!(tree(&root, &[]), first);
    }
    let helper = root.join("etc/systemd/system/aws_signing_helper_update.service");
    let verified = verify(
        "aws_signing_helper_update.service",
        &fs::read_to_string(helper).unwrap(),
    );
    assert_eq!(verified, "");
}

#[test]
fn rendering_follows_no_link_out_of_the_folder() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(&config, node_config("")).unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, root.join("etc")).unwrap();
    let output = firstboot(&[
        "render",
        "--root",
        root.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).contains("is a link"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
