//! Colours: only on a terminal, and not where `NO_COLOR` is set.

use super::shell::Lookup;

/// Says what a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// A heading.
    Bold,
    /// As it should be.
    Green,
    /// To be looked at.
    Yellow,
    /// Wrong.
    Red,
    /// Beside the point.
    Dim,
}

/// Paints text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    is_on: bool,
}

impl Paint {
    /// Returns how to paint what goes to a terminal, or elsewhere.
    pub(super) fn of(is_terminal: bool, lookup: Lookup<'_>) -> Self {
        let is_refused = lookup("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = lookup("TERM").is_none_or(|term| term == "dumb");
        Self {
            is_on: is_terminal && !is_refused && !is_dumb,
        }
    }

    /// Returns the text in a colour.
    pub(super) fn text(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Bold => "1",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Dim => "2",
        };
        if self.is_on && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Colour, Paint};

    fn painted(is_terminal: bool, variables: &[(&str, &str)]) -> String {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        let lookup = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        Paint::of(is_terminal, &lookup).text(Colour::Red, "x")
    }

    #[test]
    fn only_a_terminal_that_wants_colours_gets_them() {
        let xterm = ("TERM", "xterm");
        assert_eq!(painted(true, &[xterm]), "\x1b[31mx\x1b[0m");
        assert_eq!(
            painted(true, &[xterm, ("NO_COLOR", "")]),
            "\x1b[31mx\x1b[0m"
        );
        for (is_terminal, variables) in [
            (false, &[xterm][..]),
            (true, &[xterm, ("NO_COLOR", "1")]),
            (true, &[("TERM", "dumb")]),
            (true, &[]),
        ] {
            assert_eq!(painted(is_terminal, variables), "x", "{variables:?}");
        }
    }
}
