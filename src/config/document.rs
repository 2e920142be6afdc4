//! YAML text as a tree in which every value knows its line.
//!
//! # Why
//!
//! Deserialising straight into structs stops at the first mistake. A tree first lets `check` report
//! all of them, each with its line. Aliases, tags and merge keys are refused: no setting needs them,
//! and without them a short file cannot unfold into a huge one. (2026-11-25)

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle};

use super::error::{ConfigError, Place};

/// Holds one value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// Holds one value, scalars resolved as YAML 1.2 does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// Holds one key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

impl Value {
    /// Returns the value in words, for "found …".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Number(value) => format!("the number {value}"),
            Self::Text(text) => format!("`{text}`"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}

/// Returns the only document of a text.
///
/// Errors: syntax, several documents, duplicate keys, keys that are not text, aliases and tags. A
/// tree is returned with them as far as it could be read, so that its content can be checked too.
pub(super) fn read(text: &str) -> (Node, Vec<ConfigError>) {
    let mut builder = Builder::default();
    let mut options = Options::default();
    options.block_nesting_limit = DEPTH_MAX;
    options.flow_nesting_limit = DEPTH_MAX;
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                if builder.take(event, span.start.line()).is_break() {
                    break;
                }
            }
            Err(error) => {
                let at = Place::at("", error.marker().line());
                let problem = format!("not valid YAML: {}", error.info());
                builder.errors.push(ConfigError::new(&at, problem));
                break;
            }
        }
    }
    builder.finish()
}

/// The deepest setting is five levels down; a policy's own settings may go deeper.
const DEPTH_MAX: usize = 32;

/// Collects values that are not closed yet.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    errors: Vec<ConfigError>,
}

/// Holds a list or map whose end has not been seen.
struct Open {
    line: usize,
    /// Where in the file this is, for messages.
    path: String,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// A key that waits for its value; `Some(None)` when the key was unusable.
        key: Option<(Option<String>, usize)>,
    },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> std::ops::ControlFlow<()> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let error = ConfigError::new(&Place::at("", line), "a second document");
                    self.errors.push(error.accepting("one document per file"));
                    return std::ops::ControlFlow::Break(());
                }
            }
            Event::Scalar(text, style, _, tag) => {
                self.refuse_tag(tag.is_some(), line);
                let value = match style {
                    ScalarStyle::Plain => resolve(&text),
                    _ => Value::Text(text.into_owned()),
                };
                self.put(Node { line, value });
            }
            Event::SequenceStart(_, _, tag) => {
                self.refuse_tag(tag.is_some(), line);
                self.open(line, Content::List(Vec::new()));
            }
            Event::MappingStart(_, _, tag) => {
                self.refuse_tag(tag.is_some(), line);
                let (entries, key) = (Vec::new(), None);
                self.open(line, Content::Map { entries, key });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let path = self.path();
                let error = ConfigError::new(&Place::at(&path, line), "an alias");
                self.errors
                    .push(error.accepting("the value written out; aliases are not read"));
                let value = Value::Null;
                self.put(Node { line, value });
            }
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    }

    fn refuse_tag(&mut self, is_tagged: bool, line: usize) {
        if is_tagged {
            let path = self.path();
            let error = ConfigError::new(&Place::at(&path, line), "a tag");
            self.errors
                .push(error.accepting("the value alone; tags are not read"));
        }
    }

    fn open(&mut self, line: usize, content: Content) {
        let path = self.path();
        self.open.push(Open {
            line,
            path,
            content,
        });
    }

    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        let line = open.line;
        self.put(Node { line, value });
    }

    /// Returns the path of the value that comes next.
    fn path(&self) -> String {
        match self.open.last() {
            None => String::new(),
            Some(open) => match &open.content {
                Content::List(items) => format!("{}[{}]", open.path, items.len()),
                Content::Map {
                    key: Some((Some(key), _)),
                    ..
                } => join(&open.path, key),
                Content::Map { .. } => open.path.clone(),
            },
        }
    }

    /// Puts a finished value where it belongs: root, list, key or value.
    fn put(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key } => match key.take() {
                Some((Some(name), line)) => {
                    let key = name;
                    entries.push(Entry { key, line, node });
                }
                Some((None, _)) => {}
                None => {
                    let (path, line) = (open.path.clone(), node.line);
                    let name = text_of_key(&node.value);
                    let usable = accept_key(name, entries, &Place::at(&path, line));
                    match usable {
                        Ok(name) => *key = Some((Some(name), line)),
                        Err(error) => {
                            *key = Some((None, line));
                            self.errors.push(error);
                        }
                    }
                }
            },
        }
    }

    fn finish(mut self) -> (Node, Vec<ConfigError>) {
        while !self.open.is_empty() {
            self.close();
        }
        let (line, value) = (1, Value::Null);
        (self.root.unwrap_or(Node { line, value }), self.errors)
    }
}

fn text_of_key(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn accept_key(
    name: Option<String>,
    entries: &[Entry],
    at: &Place<'_>,
) -> Result<String, ConfigError> {
    let Some(name) = name else {
        return Err(ConfigError::new(at, "a key that is not text"));
    };
    match entries.iter().find(|entry| entry.key == name) {
        None => Ok(name),
        Some(first) => {
            let path = join(at.path, &name);
            let at = Place { path: &path, ..*at };
            let problem = format!("given twice, first in line {}", first.line);
            Err(ConfigError::new(&at, problem))
        }
    }
}

/// Returns the path of a key inside a map.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Returns what an unquoted scalar means by the core schema of YAML 1.2.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let is_numeric =
        text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    if !is_numeric {
        return Value::Text(text.to_owned());
    }
    if let Ok(value) = text.parse::<i64>() {
        return Value::Integer(value);
    }
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(value) if has_digit => Value::Number(value),
        _ => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, read, resolve};

    fn problems(text: &str) -> Vec<String> {
        read(text).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn scalars_are_read_as_yaml_1_2_does() {
        assert_eq!(resolve("~"), Value::Null);
        assert_eq!(resolve("True"), Value::Bool(true));
        assert_eq!(resolve("-7"), Value::Integer(-7));
        assert_eq!(resolve("1.5"), Value::Number(1.5));
        assert_eq!(resolve("1e3"), Value::Number(1000.0));
        for text in ["yes", "on", "5s", "0.0.0.0:44217", ".", "-", "-.inf", "nan"] {
            assert_eq!(resolve(text), Value::Text(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn quoted_scalars_stay_text() {
        let (node, errors) = read("a: \"5\"\n");
        let Value::Map(entries) = node.value else {
            panic!("not a map")
        };
        assert_eq!(entries[0].node.value, Value::Text("5".to_owned()));
        assert_eq!(errors, []);
    }

    #[test]
    fn what_yaml_allows_and_we_do_not_is_named_with_its_line() {
        let two_documents = "a: 1\n---\nb: 2\n";
        assert_eq!(
            problems(two_documents),
            ["line 2: a second document; accepted: one document per file"]
        );
        assert_eq!(
            problems("p:\n  a: 1\n  b: 2\n  a: 3\n"),
            ["line 4: p.a: given twice, first in line 2"]
        );
        assert_eq!(
            problems("a: &x 1\nb: *x\n"),
            ["line 2: b: an alias; accepted: the value written out; aliases are not read"]
        );
        assert_eq!(
            problems("l:\n  - !!str 5\n"),
            ["line 2: l[0]: a tag; accepted: the value alone; tags are not read"]
        );
        assert_eq!(
            problems("{1: 2, [a]: 3}"),
            [
                "line 1: a key that is not text",
                "line 1: a key that is not text"
            ]
        );
        assert!(problems("a: [1,\nb: {")[0].contains("not valid YAML"));
        assert!(problems(&"[".repeat(2000))[0].contains("not valid YAML"));
        assert!(problems(&"- ".repeat(2000))[0].contains("not valid YAML"));
    }

    #[test]
    fn an_empty_file_is_nothing() {
        assert_eq!(read("").0.value, Value::Null);
        assert_eq!(read("# only a comment\n").0.value, Value::Null);
    }
}
