//! What the autoscaler's container starts, read as the kubelet and rayscaler themselves read it.
//!
//! Only what a RayCluster says in `autoscalerOptions.command` and `args` is judged: without either the operator
//! writes the command line. A word with a variable whose value stands elsewhere ends the reading: nothing
//! is said of a command line that nobody can know from here.

use std::cell::Cell;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue};
use serde_json::Value;

use super::finding::Found;
use super::subject::{Subject, shown};
use super::variables::{START, Variable, Variables, cluster_name, namespace};
use crate::cli::arguments::{Cli, Command, RunArguments, try_parse};
use crate::cli::argv;

const OPTIONS: &str = "autoscalerOptions";

/// Names of the program in its image; any folder may stand before them.
const NAMES: [&str; 3] = ["rayscaler", "ray", "bash"];

/// The command that the operator gives where none is set.
const SHELL: [&str; 3] = ["/bin/bash", "-c", "--"];

/// Finds a program that is not rayscaler.
pub(super) fn starts_something_else(subject: &Subject) -> Vec<Found> {
    let found = program(subject).filter(|word| !NAMES.contains(&base_name(&word.text)));
    let accepted = "/rayscaler, which the image has as /bin/bash and /usr/bin/ray, too";
    let found = found.map(|word| Found::at(word.path, word.text, accepted));
    found.into_iter().collect()
}

/// Finds a program that the container's search path does not lead to.
pub(super) fn program_not_in_path(subject: &Subject) -> Vec<Found> {
    let found = program(subject).filter(|word| word.text == "rayscaler");
    let found = found.map(|word| Found::at(word.path, word.text, "/rayscaler"));
    found.into_iter().collect()
}

/// Returns the first word of a command of which something can be said.
fn program(subject: &Subject) -> Option<Word> {
    let mut words = words(subject, "command").into_iter();
    words.next().filter(|_| is_judged(subject))
}

/// Returns whether the container's command is taken over, and runs in an image of its own.
fn is_judged(subject: &Subject) -> bool {
    let is_kept = subject.surroundings.kuberay.is_none_or(|it| it >= (1, 7));
    let image = subject.text("autoscalerOptions.image").unwrap_or_default();
    is_kept && !image.is_empty()
}

/// Finds a command line that rayscaler refuses, or that is another command than `run`.
pub(super) fn start_refused(subject: &Subject) -> Vec<Found> {
    let read = Start::of(subject).and_then(|start| {
        let refusal = start.run().err()?;
        Some(start.found(refusal))
    });
    read.into_iter().collect()
}

/// Finds a sidecar that is told to scale another cluster than the one it stands in.
pub(super) fn scales_another_cluster(subject: &Subject) -> Vec<Found> {
    let Some(start) = Start::of(subject) else {
        return Vec::new();
    };
    let Ok(run) = start.run() else {
        return Vec::new();
    };
    let name = ("$(RAY_CLUSTER_NAME)", cluster_name(subject));
    let namespace = ("$(RAY_CLUSTER_NAMESPACE)", namespace(subject));
    let named = [(run.cluster_name, name), (run.cluster_namespace, namespace)];
    let others = named.into_iter().filter_map(|(given, (accepted, own))| {
        let own = own?;
        let given = given.filter(|given| *given != own)?;
        let (path, value) = start.place(&given);
        Some(Found::at(path, value, accepted))
    });
    others.collect()
}

/// Holds a word of the container's command line.
#[derive(Debug, Clone)]
struct Word {
    /// Where it stands.
    path: String,
    /// As it stands there.
    given: String,
    /// With its variables replaced.
    text: String,
}

/// Says what is wrong with a command line.
#[derive(Debug)]
struct Refusal {
    /// The word that is wrong, or the end of it; empty where there is none.
    word: String,
    problem: String,
    accepted: String,
}

/// Holds what the container starts.
#[derive(Debug)]
struct Start {
    /// The words of the RayCluster.
    words: Vec<Word>,
    /// All words that the program gets.
    argv: Vec<String>,
    /// Path and value of the list that ends the command line.
    list: (String, String),
    variables: Variables,
}

impl Start {
    /// Returns what is started; `None` where that is the operator's own line, or something else than
    /// rayscaler, or cannot be known.
    fn of(subject: &Subject) -> Option<Self> {
        let variables = Variables::of(subject);
        let replaced = |key: &str| -> Option<Vec<Word>> {
            let words = words(subject, key).into_iter().map(|word| {
                let text = variables.replaced(&word.given)?;
                Some(Word { text, ..word })
            });
            words.collect()
        };
        let (command, args) = (replaced("command")?, replaced("args")?);
        let mut programs = command.iter().take(1);
        let is_ours = programs.all(|word| NAMES.contains(&base_name(&word.text)));
        if !is_judged(subject) || !is_ours || (command.is_empty() && args.is_empty()) {
            return None;
        }
        let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect();
        let mut argv: Vec<String> = match command.as_slice() {
            [] => SHELL.map(str::to_owned).to_vec(),
            command => texts(command),
        };
        argv.extend(match args.as_slice() {
            [] => vec![variables.replaced(START)?],
            args => texts(args),
        });
        let key = if args.is_empty() { "command" } else { "args" };
        let path = format!("{OPTIONS}.{key}");
        let list = shown(subject.value(&path)?);
        Some(Self {
            words: [command, args].concat(),
            argv,
            list: (subject.path(&path), list),
            variables,
        })
    }

    /// Returns the options of `run` as rayscaler will read them.
    fn run(&self) -> Result<RunArguments, Refusal> {
        let is_unknown = Cell::new(false);
        let lookup = |name: &str| {
            let value = self.variables.get(name);
            is_unknown.set(is_unknown.get() || value == Variable::Elsewhere);
            match value {
                Variable::Is(value) => Some(value),
                Variable::Elsewhere => Some(String::new()),
                Variable::Unset => None,
            }
        };
        let invocation = argv::interpret(&self.argv, &lookup);
        if is_unknown.get() {
            return Ok(RunArguments::default());
        }
        let invocation = invocation.map_err(|error| Refusal::of_text(&error.0))?;
        match try_parse(&invocation) {
            Ok(Command::Run(arguments)) => Ok(arguments),
            Ok(_) => Err(Refusal::of_other(&invocation.arguments)),
            Err(error) => Err(Refusal::of_clap(&error, &invocation.arguments)),
        }
    }

    fn found(&self, refusal: Refusal) -> Found {
        let (path, value) = self.place(&refusal.word);
        let mut found = Found::at(path, value, &refusal.accepted);
        found.why = Some(format!("the container ends at once: {}", refusal.problem));
        found
    }

    /// Returns where a word stands, or a word that ends in it; the whole list where none does.
    fn place(&self, text: &str) -> (String, String) {
        let is_it = |word: &&Word| {
            let rest = word.text.strip_suffix(text);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('='))
                || word
                    .text
                    .split_once('=')
                    .is_some_and(|(key, _)| key == text)
        };
        let named = self.words.iter().filter(|_| !text.is_empty()).find(is_it);
        // A script is one word, and what is wrong stands somewhere in it.
        let script = self.words.last();
        let script = script.filter(|word| word.given.contains(char::is_whitespace));
        match named.or(script) {
            Some(word) => (word.path.clone(), shown(&word.given.as_str().into())),
            None => self.list.clone(),
        }
    }
}

impl Refusal {
    /// Takes apart what the program says of a command line that is not its own.
    fn of_text(text: &str) -> Self {
        let (problem, accepted) = text.split_once("; accepted: ").unwrap_or((text, ""));
        Self {
            word: String::new(),
            problem: problem.to_owned(),
            accepted: accepted.to_owned(),
        }
    }

    /// Says that the program does something else than to scale.
    fn of_other(arguments: &[String]) -> Self {
        let word = arguments.first().cloned().unwrap_or_default();
        Self {
            problem: format!("`rayscaler {word}` scales nothing"),
            word,
            accepted: "run".to_owned(),
        }
    }

    fn of_clap(error: &clap::Error, arguments: &[String]) -> Self {
        if !error.use_stderr() || arguments.is_empty() {
            let asked = ["--help", "-h", "help", "--version", "-V"];
            let word = arguments.iter().find(|it| asked.contains(&it.as_str()));
            return Self {
                word: word.cloned().unwrap_or_default(),
                problem: "it shows its help or version and scales nothing".to_owned(),
                accepted: "run".to_owned(),
            };
        }
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
            _ => None,
        };
        let context = |kind| context(kind).filter(|text| !text.is_empty());
        let text = error.to_string();
        let problem = text.lines().next().unwrap_or_default();
        let problem = problem.strip_prefix("error: ").unwrap_or(problem);
        let (problem, said) = problem.split_once(": accepted: ").unwrap_or((problem, ""));
        // `--gcs-address <HOST:PORT>`, of which the first word stands in the manifest.
        let option = context(ContextKind::InvalidArg).map(|it| match it.split_once([' ', '=']) {
            Some((option, _)) if it.starts_with('-') => option.to_owned(),
            _ => it,
        });
        let word = context(ContextKind::InvalidValue)
            .or(option)
            .or(context(ContextKind::InvalidSubcommand));
        let known = [
            ContextKind::SuggestedArg,
            ContextKind::SuggestedSubcommand,
            ContextKind::ValidValue,
        ];
        let accepted = Some(said).filter(|said| !said.is_empty());
        let accepted = accepted.map(str::to_owned);
        let accepted = accepted.or_else(|| known.into_iter().find_map(context));
        Self {
            word: word.unwrap_or_default(),
            problem: problem.to_owned(),
            accepted: accepted.unwrap_or_else(run_and_its_options),
        }
    }
}

/// Returns what may stand in `args`, from the definition of the command line.
fn run_and_its_options() -> String {
    let mut cli = Cli::command();
    let run = cli.find_subcommand_mut("run");
    let options = run.map(|run| {
        let options = run.get_arguments().filter_map(clap::Arg::get_long);
        let options: Vec<String> = options.map(|option| format!("--{option}")).collect();
        options.join(", ")
    });
    format!("run with {}", options.unwrap_or_default())
}

/// Returns the words of `command` or `args`.
fn words(subject: &Subject, key: &str) -> Vec<Word> {
    let path = format!("{OPTIONS}.{key}");
    let items = subject.value(&path).and_then(Value::as_array);
    let words = items
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(at, word)| {
            let word = word.as_str()?;
            Some(Word {
                path: subject.path(&format!("{path}[{at}]")),
                given: word.to_owned(),
                text: word.to_owned(),
            })
        });
    words.collect()
}

fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{scales_another_cluster, start_refused, starts_something_else};
    use crate::cli::check::subject::{Subject, Surroundings};

    /// Returns what is said of these options of a RayCluster `demo` in `ray`: path, value, accepted, and why.
    fn said(options: &Value) -> Vec<String> {
        let mut options = options.clone();
        options["image"] = json!("example.com/rayscaler:1");
        let object = json!({
            "kind": "RayCluster",
            "metadata": {"name": "demo", "namespace": "ray"},
            "spec": {"autoscalerOptions": options, "headGroupSpec": {"template": {"spec": {"containers": []}}}, "workerGroupSpecs": []},
        });
        let subject =
            Subject::of(&object, ("RayCluster", "spec"), Surroundings::default()).unwrap();
        let checks = [starts_something_else, start_refused, scales_another_cluster];
        let found = checks.iter().flat_map(|check| check(&subject));
        let shown = found.map(|it| {
            let path = it.path.strip_prefix("spec.autoscalerOptions.").unwrap();
            let why = it.why.map_or_else(String::new, |why| format!(" ({why})"));
            format!("{path} is {}; accepted: {}{why}", it.value, it.accepted)
        });
        shown.collect()
    }

    #[test]
    fn what_the_examples_and_the_operator_write_is_taken() {
        let generated = "$KUBERAY_GEN_AUTOSCALER_START_CMD";
        for options in [
            json!({"command": ["/rayscaler"], "args": ["run", "--cluster-name=$(RAY_CLUSTER_NAME)", "--cluster-namespace=$(RAY_CLUSTER_NAMESPACE)"]}),
            json!({"command": ["/rayscaler"], "args": ["run"]}),
            json!({"command": ["/rayscaler"]}),
            json!({"command": ["/rayscaler"], "args": [super::START]}),
            json!({"command": ["/bin/bash", "-lc", "--"], "args": [format!("echo starting; {generated}")]}),
            json!({"args": [generated]}),
            json!({"command": ["/rayscaler", "run", "--config", "$(FILE)"], "args": ["--dry-run"], "env": [{"name": "FILE", "value": "/etc/r.yaml"}]}),
            json!({"command": ["/rayscaler"], "args": ["run", "--cluster-name=$(NAME)"], "envFrom": [{"configMapRef": {"name": "c"}}]}),
            json!({"command": ["/bin/bash", "-c"], "args": ["$START"], "env": [{"name": "START", "valueFrom": {}}]}),
            json!({}),
        ] {
            assert_eq!(said(&options), [""; 0], "{options}");
        }
    }

    fn ours(args: &[&str]) -> Value {
        json!({"command": ["/rayscaler"], "args": args})
    }

    /// Holds options, and how what is said of them begins and ends.
    type Case = (Value, &'static str, &'static str);

    fn each_says_one_thing(cases: &[Case]) {
        for (options, starts, ends) in cases {
            let said = said(options);
            assert_eq!(said.len(), 1, "{options}: {said:#?}");
            assert!(said[0].starts_with(starts), "{starts}: {}", said[0]);
            assert!(said[0].ends_with(ends), "{ends}: {}", said[0]);
        }
    }

    #[test]
    fn a_refused_word_is_named_with_what_is_accepted() {
        each_says_one_thing(&[
            (
                ours(&["run", "--cluster-nam=$(RAY_CLUSTER_NAME)"]),
                "args[1] is --cluster-nam=$(RAY_CLUSTER_NAME); accepted: --cluster-name ",
                "unexpected argument '--cluster-nam' found)",
            ),
            (
                ours(&["run", "--gcs-address", "here"]),
                "args[2] is here; accepted: a host with a port, such as 127.0.0.1:6379 (",
                "invalid value 'here' for '--gcs-address <HOST:PORT>')",
            ),
            (
                ours(&["run", "--log-format=xml"]),
                "args[1] is --log-format=xml; accepted: text, json (",
                "invalid value 'xml' for '--log-format <FORM>')",
            ),
            (
                ours(&["run", "--config"]),
                "args[1] is --config; accepted: run with --cluster-name, ",
                "but none was supplied)",
            ),
            (
                ours(&["rnu"]),
                "args[0] is rnu; accepted: run with --cluster-name, ",
                "unrecognized subcommand 'rnu')",
            ),
            (
                ours(&["--log-level=debug"]),
                "args[0] is --log-level=debug; accepted: run with --cluster-name, ",
                "unexpected argument '--log-level' found)",
            ),
            (
                ours(&["health"]),
                "args[0] is health; accepted: run (",
                "`rayscaler health` scales nothing)",
            ),
            (
                ours(&["run", "--help"]),
                "args[1] is --help; accepted: run (",
                "shows its help or version and scales nothing)",
            ),
        ]);
    }

    #[test]
    fn a_line_that_scales_nothing_or_something_else_is_named() {
        each_says_one_thing(&[
            (
                json!({"command": ["python"], "args": ["-m", "autoscaler"]}),
                "command[0] is python; accepted: /rayscaler, ",
                "too",
            ),
            (
                json!({"args": ["run", "--dry-run"]}),
                r#"args is ["run","--dry-run"]; accepted: bash -c|-lc|-cl [--] 'ray "#,
                "under another name and no shell)",
            ),
            (
                json!({"args": ["ulimit -n 1; $KUBERAY_GEN_AUTOSCALER_START_CMD"]}),
                "args[0] is ulimit -n 1; $KUBERAY_GEN_AUTOSCALER_START_CMD; accepted: 'ray ",
                "the command `ulimit` is not known; rayscaler is no shell)",
            ),
            (
                json!({"command": ["/rayscaler", "run"]}),
                r#"command is ["/rayscaler","run"]; accepted: run with --cluster-name, "#,
                "found)",
            ),
            (
                ours(&["run", "--cluster-name=$(NAME)"]),
                "args[1] is --cluster-name=$(NAME); accepted: $(RAY_CLUSTER_NAME)",
                "",
            ),
            (
                ours(&["--cluster-namespace", "default"]),
                "args[1] is default; accepted: $(RAY_CLUSTER_NAMESPACE)",
                "",
            ),
        ]);
    }
}
