//! The README's list of threats names tests, and they exist.

use std::collections::BTreeSet;

use crate::text;

/// Returns the lines of the list, without its head.
fn threats(readme: &str) -> Vec<&str> {
    let (_, list) = readme.split_once("\n### Threats\n").unwrap();
    let rows = list.lines().skip_while(|line| !line.starts_with("|---"));
    rows.skip(1)
        .take_while(|line| line.starts_with('|'))
        .collect()
}

/// Returns whether a file has a test of this name, and not just a function.
fn is_test(file: &str, name: &str) -> bool {
    let lines: Vec<&str> = file.lines().map(str::trim).collect();
    let declares = |line: &str| {
        let line = line.trim_start_matches("pub(super) ");
        let line = line.trim_start_matches("async ");
        line.starts_with(&format!("fn {name}("))
    };
    let at = lines.iter().position(|line| declares(line));
    at.is_some_and(|at| {
        // An attribute may take several lines.
        let before = lines[..at].iter().rev().take_while(|it| !it.is_empty());
        let mut before = before.take_while(|it| !it.ends_with('}'));
        before.any(|it| it.starts_with("#[test]") || it.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_threat_names_tests_that_exist() {
    let readme = text("README.md");
    let threats = threats(&readme);
    let mut files = BTreeSet::new();
    for threat in &threats {
        let cells: Vec<&str> = threat.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "{threat}");
        let named: Vec<&str> = cells[3].trim().split(", ").collect();
        for test in named {
            let test = test.trim_matches('`');
            let (path, name) = test.split_once("::").unwrap_or_else(|| panic!("{threat}"));
            let file = text(path);
            // Has no harness: its `main` lists the tests.
            let is_listed = path == "tests/supervisor.rs" && file.matches(name).count() > 1;
            assert!(is_listed || is_test(&file, name), "no test {test}");
            files.insert(path.to_owned());
        }
    }
    for part in [
        "src/admin/",
        "src/report/",
        "src/runtime/",
        "tests/operator/",
    ] {
        assert!(
            files.iter().any(|file| file.starts_with(part)),
            "nothing of {part}"
        );
    }
}

#[test]
fn ci_denies_what_may_not_be_built_in() {
    assert!(text(".ci/run").contains("make ci"));
    let makefile = text("Makefile");
    let ci = makefile
        .lines()
        .find(|line| line.starts_with("ci:"))
        .unwrap();
    assert!(ci.split(' ').any(|word| word == "deny"), "{ci}");
    let deny = makefile.split_once("\ndeny:").unwrap().1;
    let command = deny.lines().nth(1).unwrap();
    assert!(
        command.ends_with("check bans licenses sources"),
        "{command}"
    );
    let settings = text(".deny.toml");
    for word in [
        "unknown-registry = \"deny\"",
        "unknown-git = \"deny\"",
        "wildcards = \"deny\"",
    ] {
        assert!(settings.contains(word), "{word}");
    }
}
