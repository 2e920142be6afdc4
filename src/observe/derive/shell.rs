//! What a shell makes of the generated `ray start` line.
//!
//! The operator hands the line to `bash -c`, so quotes, blanks and backslashes inside
//! `rayStartParams` are the shell's: `'{"Custom": 5}'` arrives whole, `{"Custom": 5}` in two pieces
//! and without its quotes.

/// Holds one word of the line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Word {
    /// Its text, quotes taken off.
    pub(super) text: String,
    /// Whether the shell computes a part of it (`$(nproc)`, `$CPUS`): only the pod knows the value.
    pub(super) is_computed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

/// Returns the words of a line; `None` when the shell refuses it (a quote that is not closed).
pub(super) fn words(line: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut braces = Braces::default();
    let mut quote = Quote::None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if quote == Quote::None && matches!(c, ' ' | '\t' | '\n') {
            words.extend(word.take().map(|word| braces.expand(word)));
            braces = Braces::default();
            continue;
        }
        let current = word.get_or_insert_default();
        match (quote, c) {
            (Quote::None, '\'') => quote = Quote::Single,
            (Quote::None, '"') => quote = Quote::Double,
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::None, '\\') => current.text.extend(chars.next()),
            (Quote::Double, '\\') => match chars.peek() {
                Some('$' | '`' | '"' | '\\') => current.text.extend(chars.next()),
                _ => current.text.push('\\'),
            },
            (Quote::None | Quote::Double, '$' | '`')
            | (Quote::None, ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                current.is_computed = true;
                current.text.push(c);
            }
            (Quote::None, '{' | '}' | ',') => {
                braces.see(c, current.text.len());
                current.text.push(c);
            }
            _ => current.text.push(c),
        }
    }
    words.extend(word.map(|word| braces.expand(word)));
    (quote == Quote::None).then_some(words)
}

/// Remembers unquoted braces with a comma between them: bash expands those.
#[derive(Default)]
struct Braces {
    open: Option<usize>,
    has_comma: bool,
    close: Option<usize>,
}

impl Braces {
    fn see(&mut self, c: char, at: usize) {
        match c {
            '{' if self.open.is_none() => self.open = Some(at),
            ',' if self.open.is_some() && self.close.is_none() => self.has_comma = true,
            '}' if self.has_comma => self.close = Some(at),
            _ => {}
        }
    }

    /// Returns the word without the braces that the shell expands.
    ///
    /// The real thing becomes several words; for us it is enough that the JSON is broken.
    fn expand(&self, mut word: Word) -> Word {
        if let (Some(open), Some(close)) = (self.open, self.close) {
            word.text.remove(close);
            word.text.remove(open);
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_blanks_and_backslashes_are_the_shells() {
        let cases: [(&str, &[&str]); 12] = [
            ("", &[]),
            ("  a   b ", &["a", "b"]),
            (r#"--r='{"C": 5}' x"#, &[r#"--r={"C": 5}"#, "x"]),
            (r#"--r="{\"C\": 5}""#, &[r#"--r={"C": 5}"#]),
            (r#"--r={"C": 5}"#, &["--r={C:", "5}"]),
            (r#"--r={"C":5}"#, &["--r={C:5}"]),
            (r#"--r={"a":1,"b":2}"#, &["--r=a:1,b:2"]),
            (r#"--r='"{\"C\": 5}"'"#, &[r#"--r="{\"C\": 5}""#]),
            (r"a\ b\\", &[r"a b\"]),
            (r#""a\nb""#, &[r"a\nb"]),
            ("''", &[""]),
            ("--labels=e=,z=1", &["--labels=e=,z=1"]),
        ];
        for (line, expected) in cases {
            let seen: Vec<String> = words(line).unwrap().into_iter().map(|w| w.text).collect();
            assert_eq!(seen, expected, "{line}");
        }
        assert_eq!(words("--r='x"), None);
        assert_eq!(words("\"x"), None);
    }

    #[test]
    fn what_the_shell_computes_is_marked() {
        for (line, expected) in [
            ("--n=$(nproc)", true),
            ("--n=\"$N\"", true),
            ("--n=`nproc`", true),
            ("--n='$N'", false),
            ("--n=\\$N", false),
            ("--n=1;2", true),
            ("--n=4", false),
        ] {
            assert_eq!(words(line).unwrap()[0].is_computed, expected, "{line}");
        }
    }
}
