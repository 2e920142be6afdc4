//! Where the API server is and who we are, from a kubeconfig or from the pod's environment.
//!
//! The variables are those of the container that rayscaler replaces; they are read through a
//! function, so that only `cli` touches the environment.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Long enough for a slow API server, short enough that a pass is not lost for a minute.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A longer deadline would only hide that the API server is gone.
const REQUEST_TIMEOUT_SECS_MAX: u64 = 3600;

/// Reads a variable of the environment.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Says how to reach the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeSettings {
    /// Where it is and who we are.
    pub access: ApiAccess,
    /// The deadline of every call but watches.
    pub request_timeout: Duration,
}

/// Says where the API server is and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiAccess {
    /// Kubeconfig files; the first to define a value wins.
    Kubeconfig(Vec<PathBuf>),
    /// What a pod is given.
    Pod(PodAccess),
}

/// Holds what a pod is given to reach the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAccess {
    /// `https://host:port`.
    pub endpoint: String,
    /// The ServiceAccount's token; may be missing where there is a client certificate.
    pub token_path: PathBuf,
    /// Certificates to trust.
    pub ca_path: PathBuf,
    /// A client certificate.
    pub client_certificate: Option<ClientCertificate>,
}

/// Holds the files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub certificate_path: PathBuf,
    /// Its key, PEM.
    pub key_path: PathBuf,
}

/// Says why the API server cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// One of two variables is missing.
    #[error("{set} is set and {missing} is not: set both or neither")]
    HalfACertificate {
        /// The variable that is set.
        set: &'static str,
        /// The variable that is not.
        missing: &'static str,
    },
    /// The address is not an address.
    #[error("cannot use `{value}` as address of the API server: {problem}")]
    Address {
        /// The value.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// The credentials cannot be used.
    #[error("cannot use the credentials for the API server")]
    Credentials(#[source] Box<kube::Error>),
}

impl KubeSettings {
    /// Returns the settings, and warnings about variables that are not taken as they are.
    ///
    /// `kubeconfig` (a flag) goes before `KUBECONFIG`, which goes before the pod's own.
    ///
    /// # Errors
    ///
    /// Half a client certificate, or an address that is none.
    pub fn read(
        kubeconfig: Option<&Path>,
        lookup: Lookup<'_>,
    ) -> Result<(Self, Vec<String>), SettingsError> {
        let mut warnings = Vec::new();
        if let Some(version) = lookup("KUBERAY_CRD_VER").filter(|version| version != "v1") {
            warnings.push(format!(
                "KUBERAY_CRD_VER={version} is ignored: only v1 is spoken, \
                 an older version would drop fields it does not know"
            ));
        }
        let settings = Self {
            access: match kubeconfig_paths(kubeconfig, lookup) {
                Some(paths) => ApiAccess::Kubeconfig(paths),
                None => ApiAccess::Pod(pod_access(lookup)?),
            },
            request_timeout: request_timeout(lookup, &mut warnings),
        };
        Ok((settings, warnings))
    }
}

fn kubeconfig_paths(flag: Option<&Path>, lookup: Lookup<'_>) -> Option<Vec<PathBuf>> {
    if let Some(path) = flag {
        return Some(vec![path.to_owned()]);
    }
    let list = set(lookup, "KUBECONFIG")?;
    let paths: Vec<PathBuf> = list
        .split(':')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    (!paths.is_empty()).then_some(paths)
}

fn pod_access(lookup: Lookup<'_>) -> Result<PodAccess, SettingsError> {
    const CERTIFICATE: &str = "RAY_KUBERAY_CLIENT_CERT_PATH";
    const KEY: &str = "RAY_KUBERAY_CLIENT_KEY_PATH";
    let half = |set, missing| Err(SettingsError::HalfACertificate { set, missing });
    let client_certificate = match (set(lookup, CERTIFICATE), set(lookup, KEY)) {
        (Some(certificate), Some(key)) => Some(ClientCertificate {
            certificate_path: certificate.into(),
            key_path: key.into(),
        }),
        (None, None) => None,
        (Some(_), None) => return half(CERTIFICATE, KEY),
        (None, Some(_)) => return half(KEY, CERTIFICATE),
    };
    let host =
        set(lookup, "KUBERNETES_SERVICE_HOST").unwrap_or_else(|| "kubernetes.default".to_owned());
    let port = set(lookup, "KUBERNETES_SERVICE_PORT_HTTPS").unwrap_or_else(|| String::from("443"));
    Ok(PodAccess {
        endpoint: endpoint(&host, &port)?,
        token_path: Path::new(SERVICE_ACCOUNT).join("token"),
        ca_path: set(lookup, "RAY_KUBERAY_CA_CERT_PATH")
            .map_or_else(|| Path::new(SERVICE_ACCOUNT).join("ca.crt"), PathBuf::from),
        client_certificate,
    })
}

fn endpoint(host: &str, port: &str) -> Result<String, SettingsError> {
    let refuse = |value: &str, problem: &str| {
        Err(SettingsError::Address {
            value: value.to_owned(),
            problem: problem.to_owned(),
        })
    };
    if host.starts_with("http://") {
        return refuse(host, "a token must not travel over http");
    }
    let host = host.strip_prefix("https://").unwrap_or(host);
    let Ok(port) = port.parse::<u16>() else {
        return refuse(port, "KUBERNETES_SERVICE_PORT_HTTPS is not a port");
    };
    let text = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("https://[{ip}]:{port}"),
        _ => format!("https://{host}:{port}"),
    };
    match text.parse::<http::Uri>() {
        Ok(_) => Ok(text),
        Err(error) => refuse(&text, &error.to_string()),
    }
}

fn request_timeout(lookup: Lookup<'_>, warnings: &mut Vec<String>) -> Duration {
    const NAME: &str = "KUBERAY_REQUEST_TIMEOUT_S";
    let Some(text) = set(lookup, NAME) else {
        return REQUEST_TIMEOUT;
    };
    match text.trim().parse::<u64>() {
        Ok(secs @ 1..=REQUEST_TIMEOUT_SECS_MAX) => Duration::from_secs(secs),
        _ => {
            warnings.push(format!(
                "{NAME}={text} is ignored: it takes whole seconds, 1 to {REQUEST_TIMEOUT_SECS_MAX}"
            ));
            REQUEST_TIMEOUT
        }
    }
}

fn set(lookup: Lookup<'_>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::{ApiAccess, KubeSettings, SettingsError};

    fn read(variables: &[(&str, &str)]) -> Result<(KubeSettings, Vec<String>), SettingsError> {
        KubeSettings::read(None, &|name| {
            let found = variables.iter().find(|(have, _)| *have == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoint(variables: &[(&str, &str)]) -> String {
        match read(variables).unwrap().0.access {
            ApiAccess::Pod(pod) => pod.endpoint,
            ApiAccess::Kubeconfig(paths) => format!("{paths:?}"),
        }
    }

    #[test]
    fn the_address_is_read_as_the_stock_sidecar_reads_it() {
        assert_eq!(endpoint(&[]), "https://kubernetes.default:443");
        let host = "KUBERNETES_SERVICE_HOST";
        let port = "KUBERNETES_SERVICE_PORT_HTTPS";
        assert_eq!(
            endpoint(&[(host, "10.0.0.1"), (port, "6443")]),
            "https://10.0.0.1:6443"
        );
        assert_eq!(endpoint(&[(host, "https://api")]), "https://api:443");
        assert_eq!(endpoint(&[(host, "fd00::1")]), "https://[fd00::1]:443");
        assert!(read(&[(host, "http://api")]).is_err());
        assert!(read(&[(host, "api"), (port, "70000")]).is_err());
        assert!(read(&[(host, "a b")]).is_err());
    }

    #[test]
    fn a_client_certificate_needs_both_of_its_files() {
        let certificate = ("RAY_KUBERAY_CLIENT_CERT_PATH", "/c");
        let key = ("RAY_KUBERAY_CLIENT_KEY_PATH", "/k");
        let (settings, _) = read(&[certificate, key, ("RAY_KUBERAY_CA_CERT_PATH", "/ca")]).unwrap();
        let ApiAccess::Pod(pod) = settings.access else {
            panic!("expected a pod's access");
        };
        assert_eq!(pod.ca_path, Path::new("/ca"));
        assert_eq!(pod.client_certificate.unwrap().key_path, Path::new("/k"));
        for half in [certificate, key] {
            let error = read(&[half]).unwrap_err().to_string();
            assert!(error.contains("set both or neither"), "{error}");
        }
    }

    #[test]
    fn a_flag_goes_before_the_variable_and_that_before_the_pod() {
        let variables = |name: &str| (name == "KUBECONFIG").then(|| "/a:/b".to_owned());
        let (settings, _) = KubeSettings::read(None, &variables).unwrap();
        let both = vec![PathBuf::from("/a"), PathBuf::from("/b")];
        assert_eq!(settings.access, ApiAccess::Kubeconfig(both));
        let (settings, _) = KubeSettings::read(Some(Path::new("/f")), &variables).unwrap();
        assert_eq!(
            settings.access,
            ApiAccess::Kubeconfig(vec![PathBuf::from("/f")])
        );
    }

    #[test]
    fn what_is_not_taken_is_warned_of_by_name() {
        let (settings, warnings) = read(&[("KUBERAY_REQUEST_TIMEOUT_S", "60")]).unwrap();
        assert_eq!(settings.request_timeout, Duration::from_secs(60));
        assert!(warnings.is_empty());
        for wrong in ["0", "soon", "-1", "99999999"] {
            let (settings, warnings) = read(&[("KUBERAY_REQUEST_TIMEOUT_S", wrong)]).unwrap();
            assert_eq!(settings.request_timeout, Duration::from_secs(10));
            assert!(warnings[0].contains("KUBERAY_REQUEST_TIMEOUT_S"));
        }
        let (_, warnings) = read(&[("KUBERAY_CRD_VER", "v1alpha1")]).unwrap();
        assert!(warnings[0].contains("KUBERAY_CRD_VER=v1alpha1"));
        assert!(read(&[("KUBERAY_CRD_VER", "v1")]).unwrap().1.is_empty());
    }
}
