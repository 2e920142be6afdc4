//! Other files that are read as strictly as the config: their structs are their schema too.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;

use super::error::{ConfigError, Place};
use super::{check, document, limits};

/// Holds something wrong that a schema cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, from the top: `groups[1].name`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What would be accepted.
    pub accepted: String,
}

/// Returns what a file's text says; `judge` sees what is acceptable part by part.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of the file.
pub fn read<T>(text: &str, judge: impl FnOnce(&T) -> Vec<Mistake>) -> Result<T, Vec<ConfigError>>
where
    T: DeserializeOwned + JsonSchema,
{
    let (document, mut errors) = document::read(text);
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let value = check::check(&document, &schema.to_value(), &mut errors);
    match serde_json::from_value::<T>(value) {
        Ok(read) => {
            errors.extend(judge(&read).into_iter().map(|mistake| {
                let at = limits::place(&mistake.path, &document);
                ConfigError::new(&at, mistake.problem).accepting(mistake.accepted)
            }));
            if errors.is_empty() {
                return Ok(read);
            }
        }
        // What is missing at the top has been said.
        Err(_) if !errors.is_empty() => {}
        Err(error) => errors.push(ConfigError::new(&Place::nowhere(""), error.to_string())),
    }
    errors.sort_by_key(|error| (error.line.is_none(), error.line));
    Err(errors)
}
