//! Finds Ray's authentication token and notices when it is replaced.
//!
//! A file is looked at on every call, which costs a microsecond, and read when it changed: a token that Kubernetes
//! renews is used from its first minute. Ray's own client keeps the first one for its lifetime.

use super::file_version::FileVersion;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tonic::metadata::{Ascii, MetadataValue};

/// Holds a token; its value is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Returns the token written in `text`, whose surrounding white space is not part of it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Says whether calls carry a token, and where it is.
///
/// Source: `RAY_AUTH_MODE` and its companions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuthSettings {
    /// Calls carry none.
    #[default]
    Disabled,
    /// The token itself; it cannot be replaced while the program runs.
    Value(Token),
    /// The first line of the first of these files that exists.
    Files(Vec<PathBuf>),
}

/// Says why no token could be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// None of the files exists.
    #[error("no authentication token: none of {} exists", list(.0))]
    Absent(Vec<PathBuf>),
    /// The file exists, but not for us.
    #[error("cannot read the authentication token in `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing is written in the first line.
    #[error("the authentication token in `{}` is empty", .0.display())]
    Empty(PathBuf),
    /// A character that a header cannot hold.
    #[error("the authentication token holds a character that gRPC metadata cannot carry")]
    NotAscii,
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    shown.join(", ")
}

#[derive(Debug)]
struct ReadToken {
    path: PathBuf,
    version: FileVersion,
    header: MetadataValue<Ascii>,
}

/// Keeps the current value of the `authorization` header.
#[derive(Debug)]
pub(super) struct TokenKeeper {
    settings: AuthSettings,
    read: Mutex<Option<ReadToken>>,
}

impl TokenKeeper {
    pub(super) const fn new(settings: AuthSettings) -> Self {
        Self {
            settings,
            read: Mutex::new(None),
        }
    }

    /// Returns the header's value, `None` when calls carry no token.
    pub(super) fn header(&self) -> Result<Option<MetadataValue<Ascii>>, TokenError> {
        match &self.settings {
            AuthSettings::Disabled => Ok(None),
            AuthSettings::Value(token) => bearer(&token.0).map(Some),
            AuthSettings::Files(paths) => self.header_of_files(paths).map(Some),
        }
    }

    /// Forgets what was read, for a token that Ray refused although its file looks unchanged.
    pub(super) fn forget(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn header_of_files(&self, paths: &[PathBuf]) -> Result<MetadataValue<Ascii>, TokenError> {
        let found = paths
            .iter()
            .find_map(|path| Some((path, FileVersion::of(path)?)));
        let Some((path, version)) = found else {
            return Err(TokenError::Absent(paths.to_vec()));
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read
            .as_ref()
            .filter(|known| known.path == *path && known.version == version)
        {
            return Ok(known.header.clone());
        }
        let text = std::fs::read_to_string(path).map_err(|source| TokenError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            return Err(TokenError::Empty(path.clone()));
        }
        let header = bearer(line)?;
        *read = Some(ReadToken {
            path: path.clone(),
            version,
            header: header.clone(),
        });
        Ok(header)
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, TokenError> {
    let mut header: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| TokenError::NotAscii)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::{AuthSettings, Token, TokenError, TokenKeeper};

    fn header(keeper: &TokenKeeper) -> String {
        keeper
            .header()
            .unwrap()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_value_is_sent_as_bearer_and_never_shown() {
        let settings = AuthSettings::Value(Token::new(" s3cret\n"));
        assert!(!format!("{settings:?}").contains("s3cret"));
        let keeper = TokenKeeper::new(settings);
        assert_eq!(header(&keeper), "Bearer s3cret");
        assert!(!format!("{:?}", keeper.header()).contains("s3cret"));
    }

    #[test]
    fn no_header_without_token_mode() {
        assert!(
            TokenKeeper::new(AuthSettings::Disabled)
                .header()
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn the_first_file_that_exists_counts_and_is_read_again_when_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (absent, present) = (dir.path().join("absent"), dir.path().join("present"));
        std::fs::write(&present, "  one \nsecond line").unwrap();
        let keeper = TokenKeeper::new(AuthSettings::Files(vec![absent.clone(), present.clone()]));
        assert_eq!(header(&keeper), "Bearer one");
        // Same length, and most likely the same second: replaced like a mounted Secret, by another inode.
        std::fs::write(dir.path().join("next"), "  two \nsecond line").unwrap();
        std::fs::rename(dir.path().join("next"), &present).unwrap();
        assert_eq!(header(&keeper), "Bearer two");
        std::fs::write(&absent, "three").unwrap();
        assert_eq!(header(&keeper), "Bearer three");
    }

    #[test]
    fn a_missing_an_empty_and_a_strange_token_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let keeper = TokenKeeper::new(AuthSettings::Files(vec![path.clone()]));
        assert!(matches!(keeper.header(), Err(TokenError::Absent(_))));
        std::fs::write(&path, "\nlate").unwrap();
        assert!(matches!(keeper.header(), Err(TokenError::Empty(_))));
        std::fs::write(&path, "to\u{7}ken").unwrap();
        assert!(matches!(keeper.header(), Err(TokenError::NotAscii)));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(
            keeper.header(),
            Err(TokenError::Unreadable { .. })
        ));
    }
}
