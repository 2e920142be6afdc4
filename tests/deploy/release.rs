//! What `make release` puts beside a tag.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::image::make;
use crate::{project, text};

/// Runs a command in the project and returns what it printed.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(project(""))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_release_is_program_files_list_and_checksums() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let below = |name: &str| folder.path().join(name).display().to_string();
    let (release, rootfs) = (below("release"), below("root"));
    make(&[
        "release",
        &format!("RELEASE={release}"),
        &format!("ROOTFS={rootfs}"),
    ]);
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("rayscaler-{version}-{}-linux", std::env::consts::ARCH);
    let files = fs::read_dir(&release)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap());
    let expected = ["", "-rootfs.tar", ".cdx.json"].map(|ending| format!("{name}{ending}"));
    let expected: BTreeSet<String> = expected
        .into_iter()
        .chain(["SHA256SUMS".to_owned()])
        .collect();
    assert_eq!(files.collect::<BTreeSet<_>>(), expected);
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&release)
        .output();
    let checked = String::from_utf8(checked.unwrap().stdout).unwrap();
    assert_eq!(checked.matches(": OK").count(), 3, "{checked}");
    let tar = format!("{release}/{name}-rootfs.tar");
    let listed = output(
        "tar",
        &["--list", "--verbose", "--numeric-owner", "--file", &tar],
    );
    assert!(
        listed.contains("./bin/bash -> /rayscaler") && listed.contains(" 0/0 "),
        "{listed}"
    );
    let said = output(&format!("{release}/{name}"), &["version"]);
    assert!(
        said.starts_with(&format!("rayscaler {version}\n")),
        "{said}"
    );
    let list = fs::read_to_string(format!("{release}/{name}.cdx.json")).unwrap();
    check_list(&serde_json::from_str(&list).unwrap());
}

/// The list of packages is the one of the build, as cargo itself tells it.
fn check_list(list: &Value) {
    assert_eq!(list["bomFormat"], "CycloneDX");
    let components = list["components"].as_array().unwrap();
    let listed = components
        .iter()
        .map(|it| it["bom-ref"].as_str().unwrap().to_owned());
    let tree = [
        "tree",
        "--locked",
        "--no-default-features",
        "--features=sidecar",
    ];
    let form = ["--edges=normal", "--prefix=none", "--format={p}"];
    let tree = output(env!("CARGO"), &[&tree[..], &form].concat());
    let packages = tree.lines().filter(|line| !line.starts_with("rayscaler "));
    let built = packages.map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        format!("{name}@{}", words.next().unwrap().trim_start_matches('v'))
    });
    assert_eq!(
        listed.collect::<BTreeSet<_>>(),
        built.collect::<BTreeSet<_>>()
    );
    for component in components {
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
        assert_eq!(
            component["hashes"][0]["content"].as_str().map(str::len),
            Some(64),
            "{component}"
        );
    }
}

#[test]
fn the_changelog_names_this_version_first() {
    let readme = text("README.md");
    let changelog = readme.split_once("\n## Changelog\n").unwrap().1;
    let first = changelog.lines().find_map(|line| line.strip_prefix("### "));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(first.and_then(|line| line.split(' ').next()), Some(version));
}
