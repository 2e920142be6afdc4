//! Every way in which KubeRay starts the container, turned into our own command line.
//!
//! | KubeRay | argv |
//! |---|---|
//! | ≤ 1.1 | `ray kuberay-autoscaler --cluster-name N --cluster-namespace NS` |
//! | 1.2–1.6, or ≥ 1.7 with `image` alone | `/bin/bash -lc -- '<that line>'`, also `-c` and `-cl` |
//! | ≥ 1.7 with `command` alone | `<command> '<that line>'` |
//! | ≥ 1.7 with `args` alone | `/bin/bash -c -- '<args>'` |
//! | ≥ 1.7 with both | ours: `rayscaler run --cluster-name=N --cluster-namespace=NS` |
//!
//! The image therefore has this program as `ray` and as `/bin/bash` too. Nothing here does input or
//! output, and nothing parses options: the parent process comes through here, and stays small.

use std::fmt;

use super::shell::{self, Lookup};

/// Holds our own command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The words after the program's name.
    pub arguments: Vec<String>,
    /// What was asked for around the command and is not done.
    pub notices: Vec<String>,
}

/// Says what is wrong with a command line, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl Invocation {
    fn of(arguments: &[String]) -> Self {
        Self {
            arguments: arguments.to_vec(),
            notices: Vec::new(),
        }
    }

    /// Returns whether this is the long-running command with its supervisor.
    #[must_use]
    pub fn is_supervised_run(&self) -> bool {
        let mut words = self.arguments.iter().map(String::as_str);
        let is_short = |word: &str| ["--no-supervise", "--help", "-h"].contains(&word);
        words.next() == Some("run") && !words.any(is_short)
    }
}

const ACCEPTED_OF_RAY: &str = "ray kuberay-autoscaler --cluster-name NAME --cluster-namespace NAMESPACE [--gcs-address HOST:PORT]";

/// Returns what a command line means.
///
/// # Errors
///
/// What is not accepted and what would be.
pub fn interpret(argv: &[String], lookup: Lookup<'_>) -> Result<Invocation, UsageError> {
    let (name, rest) = match argv.split_first() {
        Some((program, rest)) => (base_name(program), rest),
        None => ("", argv),
    };
    match (name, rest) {
        ("bash" | "-bash" | "sh", _) => shell_command(rest, lookup),
        ("ray", _) => ray_command(rest),
        (_, [line]) if line.contains(char::is_whitespace) || line.starts_with('$') => {
            script(line, lookup)
        }
        _ => Ok(own_command(rest)),
    }
}

/// Returns the value of `--log-format` wherever it stands, for the parent's own lines.
pub(super) fn log_format(words: &[String]) -> Option<&str> {
    let words = words.iter().flat_map(|word| word.split_whitespace());
    let mut words = words.skip_while(|word| !word.starts_with("--log-format"));
    match words.next()?.split_once('=') {
        Some((_, value)) => Some(value),
        None => words.next(),
    }
}

fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// Takes our own arguments; options without a sub-command are those of `run`.
fn own_command(rest: &[String]) -> Invocation {
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ray", "kuberay-autoscaler", ..] => run(rest.get(2..).unwrap_or_default()),
        ["kuberay-autoscaler", ..] => run(rest.get(1..).unwrap_or_default()),
        [first, ..] if is_option_of_run(first) => run(rest),
        _ => Invocation::of(rest),
    }
}

fn is_option_of_run(word: &str) -> bool {
    ["--cluster-name", "--cluster-namespace", "--gcs-address"]
        .iter()
        .any(|option| {
            word.strip_prefix(option)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
}

fn run(options: &[String]) -> Invocation {
    let mut arguments = vec!["run".to_owned()];
    arguments.extend_from_slice(options);
    Invocation {
        arguments,
        notices: Vec::new(),
    }
}

fn ray_command(rest: &[String]) -> Result<Invocation, UsageError> {
    match rest.split_first() {
        Some((command, options)) if command == "kuberay-autoscaler" => Ok(run(options)),
        other => {
            let asked = other.map_or("ray".to_owned(), |(command, _)| format!("ray {command}"));
            Err(UsageError(format!(
                "`{asked}`: this `ray` is rayscaler under another name and not Ray itself; \
                 accepted: {ACCEPTED_OF_RAY}"
            )))
        }
    }
}

fn shell_command(rest: &[String], lookup: Lookup<'_>) -> Result<Invocation, UsageError> {
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["-c" | "-lc" | "-cl", "--", line] | ["-c" | "-lc" | "-cl", line] if *line != "--" => {
            script(line, lookup)
        }
        _ => Err(UsageError(format!(
            "`bash {}`: this `bash` is rayscaler under another name and no shell; \
             accepted: bash -c|-lc|-cl [--] '{ACCEPTED_OF_RAY}'",
            words.join(" ")
        ))),
    }
}

/// Takes a whole command line in one string; the last command of it is the one that is run.
fn script(line: &str, lookup: Lookup<'_>) -> Result<Invocation, UsageError> {
    let refuse = |problem: String| {
        let accepted = format!(
            "'{ACCEPTED_OF_RAY}', or any `echo …;` and then $KUBERAY_GEN_AUTOSCALER_START_CMD"
        );
        UsageError(format!(
            "`{line}`: {problem}; rayscaler is no shell; accepted: {accepted}"
        ))
    };
    let mut commands = shell::commands(line, lookup).map_err(refuse)?;
    let last = commands.pop().unwrap_or_default();
    let mut notices = Vec::new();
    for command in commands {
        match command.first().map(String::as_str) {
            Some("echo") => notices.push(command.get(1..).unwrap_or_default().join(" ")),
            Some("set" | ":" | "true") => {}
            other => {
                let name = other.unwrap_or_default();
                return Err(refuse(format!("the command `{name}` is not known")));
            }
        }
    }
    let words = match last.split_first() {
        Some((first, rest)) if first == "exec" => rest,
        _ => &last,
    };
    let invocation = match words.split_first() {
        Some((program, rest)) => match base_name(program) {
            "ray" => ray_command(rest)?,
            "rayscaler" => own_command(rest),
            other => return Err(refuse(format!("the command `{other}` is not known"))),
        },
        None => return Err(refuse("there is no command in it".to_owned())),
    };
    Ok(Invocation {
        notices,
        ..invocation
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ray kuberay-autoscaler --cluster-name c --cluster-namespace n";

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "RAY_CLUSTER_NAME" => "c",
            "RAY_CLUSTER_NAMESPACE" => "n",
            "KUBERAY_GEN_AUTOSCALER_START_CMD" => LINE,
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn read(argv: &[&str]) -> Result<Invocation, UsageError> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        interpret(&argv, &lookup)
    }

    #[test]
    fn every_shape_of_the_start_command_is_the_same_run() {
        let ray = [
            "kuberay-autoscaler",
            "--cluster-name",
            "c",
            "--cluster-namespace",
            "n",
        ];
        let both = "$(RAY_CLUSTER_NAME) --cluster-namespace ${RAY_CLUSTER_NAMESPACE}";
        let unexpanded = format!("ray kuberay-autoscaler --cluster-name {both}");
        let exec = format!("exec /usr/bin/{LINE}");
        let shapes: Vec<Vec<&str>> = vec![
            [&["ray"], &ray[..]].concat(),
            [&["/usr/local/bin/ray"], &ray[..]].concat(),
            [&["/rayscaler"], &ray[..]].concat(),
            [&["/rayscaler", "ray"], &ray[..]].concat(),
            [&["/rayscaler"], &ray[1..]].concat(),
            [&["/rayscaler", "run"], &ray[1..]].concat(),
            vec!["/bin/bash", "-c", "--", LINE],
            vec!["/bin/bash", "-lc", "--", LINE],
            vec!["/bin/bash", "-cl", "--", LINE],
            vec!["bash", "-c", LINE],
            vec!["sh", "-c", LINE],
            vec!["/x", LINE],
            vec!["/x", &unexpanded],
            vec!["/x", "$KUBERAY_GEN_AUTOSCALER_START_CMD"],
            vec![
                "/bin/bash",
                "-c",
                "--",
                "${KUBERAY_GEN_AUTOSCALER_START_CMD}",
            ],
            vec!["/bin/bash", "-c", "--", &exec],
            vec![
                "/bin/bash",
                "-c",
                "--",
                "rayscaler run --cluster-name c --cluster-namespace n",
            ],
        ];
        for argv in shapes {
            let read = read(&argv).unwrap();
            let expected = ["run", "--cluster-name", "c", "--cluster-namespace", "n"];
            assert_eq!(read.arguments, expected, "{argv:?}");
            assert_eq!(read.notices, [""; 0]);
            assert!(read.is_supervised_run());
        }
    }

    #[test]
    fn the_sample_with_an_echo_before_the_command_runs_it_and_tells() {
        let script = "echo \"hello world\"; $KUBERAY_GEN_AUTOSCALER_START_CMD";
        let read = read(&["/bin/bash", "-lc", "--", script]).unwrap();
        assert_eq!(read.arguments[0], "run");
        assert_eq!(read.notices, ["hello world"]);
    }

    #[test]
    fn our_own_commands_pass_through() {
        for argv in [
            &["rayscaler", "check", "a file.yaml"][..],
            &["rayscaler", "--help"],
            &["rayscaler"],
            &["/renamed", "version"],
            &["rayscaler", "run", "--no-supervise"],
        ] {
            let read = read(argv).unwrap();
            assert_eq!(read.arguments, argv[1..]);
            assert!(!read.is_supervised_run(), "{argv:?}");
        }
        assert_eq!(interpret(&[], &lookup).unwrap().arguments, [""; 0]);
    }

    #[test]
    fn the_parent_finds_the_log_format_in_every_shape() {
        let format = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            log_format(&words).map(str::to_owned)
        };
        let json = Some("json".to_owned());
        assert_eq!(format(&["rayscaler", "run", "--log-format=json"]), json);
        assert_eq!(
            format(&["rayscaler", "run", "--log-format", "json", "--dry-run"]),
            json
        );
        assert_eq!(format(&["bash", "-c", "ray x --log-format json"]), json);
        assert_eq!(format(&["rayscaler", "run"]), None);
    }

    #[test]
    fn what_is_not_accepted_is_named_beside_what_is() {
        for (argv, problem) in [
            (&["ray"][..], "`ray`: this `ray` is rayscaler"),
            (
                &["ray", "start", "--head"],
                "`ray start`: this `ray` is rayscaler",
            ),
            (
                &["ray", "health-check"],
                "`ray health-check`: this `ray` is rayscaler",
            ),
            (&["bash"], "`bash `: this `bash` is rayscaler"),
            (
                &["bash", "-c", "--"],
                "`bash -c --`: this `bash` is rayscaler",
            ),
            (
                &["bash", "script.sh"],
                "`bash script.sh`: this `bash` is rayscaler",
            ),
            (&["bash", "-c", LINE, "$0"], "this `bash` is rayscaler"),
            (&["bash", "-xc", LINE], "this `bash` is rayscaler"),
            (
                &["bash", "-c", "ulimit -n 65536; ray x"],
                "the command `ulimit` is not known",
            ),
            (
                &["bash", "-c", "python x.py"],
                "the command `python` is not known",
            ),
            (
                &["bash", "-c", "ray start --head"],
                "`ray start`: this `ray` is rayscaler",
            ),
            (
                &["bash", "-c", "ray kuberay-autoscaler | tee x"],
                "`|` is not understood here",
            ),
            (
                &["bash", "-c", "A=1 ray kuberay-autoscaler"],
                "the command `A=1` is not known",
            ),
            (&["bash", "-c", " ; "], "there is no command in it"),
            (&["/x", "$NOT_SET"], "the variable NOT_SET is not set"),
        ] {
            let error = read(argv).unwrap_err().to_string();
            assert!(error.contains(problem), "{argv:?}: {error}");
            assert!(error.contains("accepted: "), "{error}");
            assert!(
                error.contains("kuberay-autoscaler --cluster-name"),
                "{error}"
            );
        }
    }
}
