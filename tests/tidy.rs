//! House rules that no compiler knows.
#![expect(clippy::unwrap_used, reason = "test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module under `src/` may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("placement", &["model"]),
    ("policy", &["model", "placement"]),
    ("engine", &["model", "placement", "policy"]),
    ("clock", &["model"]),
    // The engine is built from a registry of policies.
    ("config", &["model", "engine", "policy"]),
    ("sim", &["model", "engine", "config"]),
    ("wire", &[]),
    // Never each other: they meet in `runtime`.
    ("observe", &["model", "wire", "clock"]),
    ("act", &["model", "wire", "clock"]),
    ("report", &["model", "wire", "clock"]),
    ("admin", &["model", "report", "clock"]),
    (
        "runtime",
        &[
            "model",
            "placement",
            "policy",
            "engine",
            "config",
            "wire",
            "clock",
            "observe",
            "act",
            "report",
            "admin",
        ],
    ),
    ("embedded", &["model", "wire", "clock"]),
    // It runs the sidecar whole, and plays the stock loop with the sidecar's own eyes.
    (
        "sandbox",
        &[
            "model", "policy", "engine", "config", "wire", "clock", "observe", "admin", "runtime",
            "embedded",
        ],
    ),
    (
        "simulator",
        &[
            "model", "config", "wire", "clock", "admin", "runtime", "embedded", "sandbox",
        ],
    ),
    (
        "cli",
        &[
            "model",
            "placement",
            "policy",
            "engine",
            "config",
            "sim",
            "wire",
            "clock",
            "observe",
            "act",
            "report",
            "admin",
            "runtime",
            "embedded",
            "sandbox",
            "simulator",
        ],
    ),
];

const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files below a folder with their text, build output and what is not text left out.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if ["target", ".git", ".cache", "node_modules"]
            .iter()
            .any(|skipped| name == *skipped)
        {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path));
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((path, text));
        }
    }
    found.sort();
    found
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let folders = ["src", "tests", "benches", "examples"];
    let all = folders
        .iter()
        .flat_map(|folder| files(&root().join(folder)));
    let is_ours = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "generated.rs")
    };
    all.filter(|(path, _)| is_ours(path)).collect()
}

/// Returns the module under `src/` that a file belongs to.
fn module(path: &Path) -> Option<String> {
    let below = path.strip_prefix(root().join("src")).ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    let module = first.trim_end_matches(".rs");
    (!["main", "lib"].contains(&module)).then(|| module.to_owned())
}

/// Returns the modules a text names after `crate::`, in groups too.
fn uses(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for (at, marker) in code.match_indices("crate::") {
        let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if !is_whole {
            continue;
        }
        let rest = &code[at + marker.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(names_in_group(group)),
            None => found.extend(name(rest)),
        }
    }
    found
}

fn name(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    let name = &text[..end.unwrap_or(text.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

fn names_in_group(text: &str) -> Vec<String> {
    let mut depth = 1;
    let mut names: Vec<String> = name(text).into_iter().collect();
    for (at, next) in text.char_indices() {
        match next {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.extend(name(&text[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[test]
fn uses_are_found_alone_and_in_groups() {
    let text = "use crate::a::B;\nuse crate::{b::{x, y}, c};\n// crate::d\nfn f() { crate::e::g() }\nmycrate::h()";
    let expected = ["a", "b", "c", "e"].map(str::to_owned);
    assert_eq!(uses(text), BTreeSet::from(expected));
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let modules: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        let Some(module) = module(&path) else {
            continue;
        };
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            problems.push(format!("{}: `{module}` is not in MAY_USE", path.display()));
            continue;
        };
        for used in uses(&text) {
            let is_fine = used == module || allowed.contains(&used.as_str());
            if !is_fine && modules.contains(used.as_str()) {
                problems.push(format!("{}: `{module}` uses `{used}`", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_are_short_well_named_and_say_what_they_are_for() {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!(
                "{}: {lines} lines, at most {LINES_MAX}",
                path.display()
            ));
        }
        let name = path.file_name().unwrap();
        if ["types.rs", "utils.rs", "helpers.rs"]
            .iter()
            .any(|banned| name == *banned)
        {
            problems.push(format!("{}: name it after what it does", path.display()));
        }
        if !text.starts_with("//!") {
            problems.push(format!("{}: does not open with `//!`", path.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn nothing_unfinished_and_no_path_of_one_machine_is_left() {
    // Put together here, so that this file does not contain them.
    let banned = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
    ];
    let mut problems = Vec::new();
    for (path, text) in files(&root()) {
        for (number, line) in (1..).zip(text.lines()) {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{}:{number}: `{word}`", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Returns the name in a policy file's `ENTRY`; `None` for other files of the folder.
fn policy_name(text: &str) -> Option<&str> {
    let entry = text.split_once("const ENTRY")?.1;
    let name = entry.split_once("name: \"")?.1;
    Some(name.split_once('"')?.0)
}

#[test]
fn every_policy_is_registered_and_described_where_users_look() {
    let policies = files(&root().join("src/policy"));
    let config = fs::read_to_string(root().join("config/default.yaml")).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).ok();
    let mut problems = Vec::new();
    for (path, text) in &policies {
        let Some(name) = policy_name(text) else {
            continue;
        };
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let registration = format!("{stem}::ENTRY");
        if !policies
            .iter()
            .any(|(_, text)| text.contains(&registration))
        {
            problems.push(format!(
                "policy `{name}` is not registered as {registration}"
            ));
        }
        if !config.contains(name) {
            problems.push(format!("policy `{name}` is not in config/default.yaml"));
        }
        if readme
            .as_ref()
            .is_some_and(|readme| !readme.contains(&format!("`{name}`")))
        {
            problems.push(format!("policy `{name}` is not in README.md"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_policy_file_is_recognised_by_its_entry() {
    let text = "pub(super) const ENTRY: PolicyEntry = PolicyEntry {\n    name: \"cooldown\",\n";
    assert_eq!(policy_name(text), Some("cooldown"));
    assert_eq!(policy_name("pub struct Plan { name: \"x\" }"), None);
}
