//! Reads how to reach and to convince Ray from Ray's own environment variables.

use super::tls::TlsSettings;
use super::token::{AuthSettings, Token};
use std::path::PathBuf;

/// Where KubeRay's operator mounts the token made for Ray.
const RAY_TOKEN_PATH: &str = "/var/run/secrets/ray.io/serviceaccount/token";
/// Where older operators leave it: the token of the pod's ServiceAccount.
const POD_TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Holds all that is needed to talk to one GCS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsSettings {
    /// `host:port`.
    pub address: String,
    /// Whether calls carry a token.
    pub auth: AuthSettings,
    /// Certificates, `None` for plaintext.
    pub tls: Option<TlsSettings>,
}

/// Says which setting cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address is not one.
    #[error("GCS address `{0}` is not of the form host:port")]
    Address(String),
    /// `RAY_USE_TLS` is on and one of its companions is not set.
    #[error("RAY_USE_TLS is on, but {0} is not set")]
    TlsPathAbsent(&'static str),
}

impl GcsSettings {
    /// Returns the settings of a GCS without token and TLS.
    #[must_use]
    pub fn plain(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            auth: AuthSettings::Disabled,
            tls: None,
        }
    }

    /// Returns what the environment asks for; `lookup` reads one variable.
    ///
    /// Errors: all of them at once.
    pub fn from_environment(
        address: &str,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<SettingsError>> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let mut errors = Vec::new();
        if !is_host_and_port(address) {
            errors.push(SettingsError::Address(address.to_owned()));
        }
        let tls = if is_on(lookup("RAY_USE_TLS")) {
            tls_settings(&lookup, &mut errors)
        } else {
            None
        };
        if errors.is_empty() {
            Ok(Self {
                address: address.to_owned(),
                auth: auth_settings(&lookup),
                tls,
            })
        } else {
            Err(errors)
        }
    }
}

/// Returns the token's place, in Ray's order: the first that is set wins.
///
/// A mode that Ray does not know is the same to Ray as none.
fn auth_settings(lookup: &dyn Fn(&str) -> Option<String>) -> AuthSettings {
    if !lookup("RAY_AUTH_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("token")) {
        return AuthSettings::Disabled;
    }
    if let Some(token) = lookup("RAY_AUTH_TOKEN") {
        return AuthSettings::Value(Token::new(&token));
    }
    if let Some(path) = lookup("RAY_AUTH_TOKEN_PATH") {
        return AuthSettings::Files(vec![PathBuf::from(path)]);
    }
    let mut files = Vec::new();
    if is_on(lookup("RAY_ENABLE_K8S_TOKEN_AUTH")) {
        files.extend([RAY_TOKEN_PATH, POD_TOKEN_PATH].map(PathBuf::from));
    }
    let home = lookup("HOME").unwrap_or_else(|| "/".to_owned());
    files.push(PathBuf::from(home).join(".ray/auth_token"));
    AuthSettings::Files(files)
}

fn tls_settings(
    lookup: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<SettingsError>,
) -> Option<TlsSettings> {
    let mut path = |name: &'static str| {
        let found = lookup(name).map(PathBuf::from);
        if found.is_none() {
            errors.push(SettingsError::TlsPathAbsent(name));
        }
        found
    };
    let (cert, key, ca_cert) = (
        path("RAY_TLS_SERVER_CERT"),
        path("RAY_TLS_SERVER_KEY"),
        path("RAY_TLS_CA_CERT"),
    );
    Some(TlsSettings {
        cert: cert?,
        key: key?,
        ca_cert: ca_cert?,
    })
}

fn is_on(value: Option<String>) -> bool {
    value.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    !host.is_empty()
        && !is_bare_v6
        && !host.contains('/')
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::{AuthSettings, GcsSettings, SettingsError, Token};
    use std::path::PathBuf;

    fn read(variables: &[(&str, &str)]) -> Result<GcsSettings, Vec<SettingsError>> {
        GcsSettings::from_environment("127.0.0.1:6379", &|name| {
            let found = variables.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        })
    }

    fn files(paths: &[&str]) -> AuthSettings {
        AuthSettings::Files(paths.iter().map(PathBuf::from).collect())
    }

    #[test]
    fn an_empty_environment_means_plaintext_without_token() {
        assert_eq!(read(&[]), Ok(GcsSettings::plain("127.0.0.1:6379")));
        // A token alone does not turn the mode on in a client.
        let with_token = read(&[("RAY_AUTH_TOKEN", "t"), ("RAY_AUTH_MODE", "disabled")]);
        assert_eq!(with_token.unwrap().auth, AuthSettings::Disabled);
    }

    #[test]
    fn the_first_source_of_a_token_wins() {
        let k8s = "/var/run/secrets/ray.io/serviceaccount/token";
        let older = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        let mode = ("RAY_AUTH_MODE", "Token");
        let home = ("HOME", "/home/ray");
        let (value, path) = (("RAY_AUTH_TOKEN", "t"), ("RAY_AUTH_TOKEN_PATH", "/t"));
        let kubernetes = ("RAY_ENABLE_K8S_TOKEN_AUTH", "true");
        let cases = [
            (vec![mode, home], files(&["/home/ray/.ray/auth_token"])),
            (
                vec![mode, home, kubernetes],
                files(&[k8s, older, "/home/ray/.ray/auth_token"]),
            ),
            (vec![mode, home, kubernetes, path], files(&["/t"])),
            (
                vec![mode, home, path, value],
                AuthSettings::Value(Token::new("t")),
            ),
            (vec![mode, ("RAY_AUTH_TOKEN", ""), path], files(&["/t"])),
        ];
        for (variables, expected) in cases {
            assert_eq!(read(&variables).unwrap().auth, expected, "{variables:?}");
        }
    }

    #[test]
    fn tls_wants_all_three_files_and_names_each_that_is_missing() {
        let errors = read(&[("RAY_USE_TLS", "1"), ("RAY_TLS_SERVER_KEY", "/k")]).unwrap_err();
        let missing = ["RAY_TLS_SERVER_CERT", "RAY_TLS_CA_CERT"].map(SettingsError::TlsPathAbsent);
        assert_eq!(errors, missing);
        let off = read(&[("RAY_USE_TLS", "0"), ("RAY_TLS_SERVER_KEY", "/k")]);
        assert_eq!(off.unwrap().tls, None);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:6379", "head-svc.ns:6379", "[::1]:6379"] {
            assert!(
                GcsSettings::from_environment(good, &|_| None).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "",
            "auto",
            ":6379",
            "host:",
            "host:0",
            "host:99999",
            "::1:6379",
            "http://a:1",
        ] {
            let errors = GcsSettings::from_environment(bad, &|_| None).unwrap_err();
            assert_eq!(errors, [SettingsError::Address(bad.to_owned())]);
        }
    }
}
