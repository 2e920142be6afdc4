//! The little of a shell's language that KubeRay's start command needs.
//!
//! KubeRay up to 1.6 starts the container with `/bin/bash -c -- '<one string>'` whatever the image
//! holds. Words, quotes, variables and a list of commands are read; everything else is refused by
//! name, because a shell that quietly does something else is worse than none.

/// Looks a variable up.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns the commands of a script, each as its words.
///
/// Errors: in words, for what is not read here and for variables that are not set.
pub(super) fn commands(script: &str, lookup: Lookup<'_>) -> Result<Vec<Vec<String>>, String> {
    let mut reader = Reader {
        rest: script,
        lookup,
        commands: vec![Vec::new()],
        word: None,
    };
    while let Some(next) = reader.next() {
        reader.plain(next)?;
    }
    reader.end_command();
    reader.commands.retain(|command| !command.is_empty());
    Ok(reader.commands)
}

struct Reader<'a> {
    rest: &'a str,
    lookup: Lookup<'a>,
    commands: Vec<Vec<String>>,
    /// The word being read; `None` between words, as `""` is a word too.
    word: Option<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = self.rest.get(next.len_utf8()..).unwrap_or_default();
        Some(next)
    }

    fn push(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    fn push_char(&mut self, next: char) {
        self.word.get_or_insert_default().push(next);
    }

    fn end_word(&mut self) {
        if let (Some(word), Some(command)) = (self.word.take(), self.commands.last_mut()) {
            command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.commands.push(Vec::new());
    }

    /// Takes a character outside of quotes.
    fn plain(&mut self, next: char) -> Result<(), String> {
        match next {
            '\n' | ';' => self.end_command(),
            _ if next.is_whitespace() => self.end_word(),
            '&' if self.rest.starts_with('&') => {
                self.next();
                self.end_command();
            }
            '\'' => {
                let text = self.until('\'')?;
                self.push(text);
            }
            '"' => self.double_quoted()?,
            '\\' => match self.next() {
                Some('\n') => {}
                Some(escaped) => self.push_char(escaped),
                None => return Err("a backslash at the end".to_owned()),
            },
            '$' => {
                let value = self.variable()?;
                self.split(&value);
            }
            '#' if self.word.is_none() => {
                self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
            }
            '|' | '&' | '<' | '>' | '`' | '(' | ')' | '*' | '?' | '[' => {
                return Err(format!("`{next}` is not understood here"));
            }
            _ => self.push_char(next),
        }
        Ok(())
    }

    fn until(&mut self, end: char) -> Result<&'a str, String> {
        let missing = || format!("a closing {end} is missing");
        let (text, rest) = self.rest.split_once(end).ok_or_else(missing)?;
        self.rest = rest;
        Ok(text)
    }

    fn double_quoted(&mut self) -> Result<(), String> {
        self.push("");
        loop {
            match self.next().ok_or("a closing \" is missing")? {
                '"' => return Ok(()),
                '\\' if self.rest.starts_with(['"', '\\', '$']) => {
                    let escaped = self.next().unwrap_or('\\');
                    self.push_char(escaped);
                }
                '$' => {
                    let value = self.variable()?;
                    self.push(&value);
                }
                '`' => return Err("``` is not understood here".to_owned()),
                next => self.push_char(next),
            }
        }
    }

    /// Returns the value after a `$`: `$NAME`, `${NAME}`, or `$(NAME)` as Kubernetes writes it.
    fn variable(&mut self) -> Result<String, String> {
        let name = match self.rest.chars().next() {
            Some('{') => {
                self.next();
                self.until('}')?
            }
            Some('(') => {
                self.next();
                self.until(')')?
            }
            _ => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                name
            }
        };
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let is_name = name.starts_with(is_first)
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(format!("`${name}` is not understood here"));
        }
        (self.lookup)(name).ok_or_else(|| format!("the variable {name} is not set"))
    }

    /// Puts a value in that was not quoted: its spaces end words.
    fn split(&mut self, value: &str) {
        for next in value.chars() {
            if next.is_whitespace() {
                self.end_word();
            } else {
                self.push_char(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::commands;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "NAME" => Some("ray one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn words_quotes_and_variables_are_read_as_a_shell_does() {
        for (script, expected) in [
            ("a b", vec![vec!["a", "b"]]),
            ("  a\t'b c'\"d\"  ", vec![vec!["a", "b cd"]]),
            (
                "a \"$NAME\" ${NAME} $(NAME)",
                vec![vec!["a", "ray one", "ray", "one", "ray", "one"]],
            ),
            (
                "a '$NAME' \"\\$NAME\" \\$NAME",
                vec![vec!["a", "$NAME", "$NAME", "$NAME"]],
            ),
            ("a \"\" $EMPTY b", vec![vec!["a", "", "b"]]),
            (
                "a; b && c\nd # e\n f#g",
                vec![vec!["a"], vec!["b"], vec!["c"], vec!["d"], vec!["f#g"]],
            ),
            ("a \\\n b", vec![vec!["a", "b"]]),
            ("", vec![]),
        ] {
            assert_eq!(commands(script, &lookup).unwrap(), expected, "{script}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (script, expected) in [
            ("a | b", "`|` is not understood here"),
            ("a & b", "`&` is not understood here"),
            ("a > b", "`>` is not understood here"),
            ("(a)", "`(` is not understood here"),
            ("$(date +%s)", "`$date +%s` is not understood here"),
            ("${NAME:-x}", "`$NAME:-x` is not understood here"),
            ("a $OTHER", "the variable OTHER is not set"),
            ("a 'b", "a closing ' is missing"),
            ("a \"b", "a closing \" is missing"),
            ("a \\", "a backslash at the end"),
            ("a $", "`$` is not understood here"),
        ] {
            assert_eq!(commands(script, &lookup).unwrap_err(), expected, "{script}");
        }
    }
}
