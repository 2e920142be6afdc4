//! Proves to real Ray who we are: token, certificates, cluster id.

mod support;

use rayscaler::wire::gcs::{AuthSettings, GcsClient, GcsError, GcsSettings, RayletClient, Token};
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::certificates::Authority;
use support::ray::{HeadOptions, RayHead};

const TOKEN: &str = "a-token-that-only-this-test-knows";

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn with_auth(head: &RayHead, auth: AuthSettings) -> GcsSettings {
    GcsSettings {
        auth,
        ..head.settings()
    }
}

#[tokio::test]
async fn a_token_opens_the_door_and_a_renewed_one_is_read_again() {
    let env = variables(&[("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN", TOKEN)]);
    let head = RayHead::start(HeadOptions {
        env,
        ..HeadOptions::default()
    })
    .await;
    // Already used by `start`: the token of the head's own variables.
    head.client().get_cluster_resource_state().await.unwrap();
    let raylet = head.raylet_address().await;
    head.raylets().get_resource_load(&raylet).await.unwrap();
    head.driver("request_resources.py", &[r#"[{"CPU": 1}]"#])
        .finish()
        .await;

    let missing = GcsClient::new(with_auth(&head, AuthSettings::Disabled));
    let error = missing.get_cluster_resource_state().await.unwrap_err();
    assert_eq!(error.kind(), "bad_token");
    assert!(
        error.to_string().contains("missing or incorrect"),
        "{error}"
    );
    let wrong = AuthSettings::Value(Token::new("wrong"));
    let error = GcsClient::new(with_auth(&head, wrong.clone()))
        .check_alive()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "bad_token");
    let raylets = RayletClient::new(wrong, None).with_deadline(Duration::from_secs(5));
    let error = raylets.get_resource_load(&raylet).await.unwrap_err();
    assert_eq!(error.kind(), "bad_token");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let client = GcsClient::new(with_auth(&head, AuthSettings::Files(vec![file.clone()])));
    assert_eq!(client.check_alive().await.unwrap_err().kind(), "no_token");
    fs::write(&file, "of-yesterday").unwrap();
    assert_eq!(client.check_alive().await.unwrap_err().kind(), "bad_token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    client.check_alive().await.unwrap();
}

fn tls_variables(dir: &Path) -> Vec<(String, String)> {
    let path = |name: &str| dir.join(name).display().to_string();
    variables(&[
        ("RAY_USE_TLS", "1"),
        ("RAY_TLS_SERVER_CERT", &path("tls.crt")),
        ("RAY_TLS_SERVER_KEY", &path("tls.key")),
        ("RAY_TLS_CA_CERT", &path("ca.crt")),
    ])
}

#[tokio::test]
async fn mutual_tls_wants_both_certificates_and_takes_renewed_ones() {
    let (of_head, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::new();
    authority.issue_into(of_head.path());
    let env = tls_variables(of_head.path());
    let head = RayHead::start(HeadOptions {
        env,
        ..HeadOptions::default()
    })
    .await;
    head.client().get_cluster_resource_state().await.unwrap();
    let raylet = head.raylet_address().await;
    head.raylets().get_resource_load(&raylet).await.unwrap();

    let plaintext = GcsClient::new(GcsSettings::plain(head.address()));
    assert_eq!(
        plaintext.check_alive().await.unwrap_err().kind(),
        "unreachable"
    );

    let environment = tls_variables(ours.path());
    let settings = GcsSettings::from_environment(head.address(), &|name| {
        environment
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    });
    let client = GcsClient::new(settings.unwrap());
    assert_eq!(
        client.check_alive().await.unwrap_err().kind(),
        "bad_certificate",
        "no files"
    );
    fs::write(ours.path().join("tls.crt"), "no certificate").unwrap();
    fs::write(ours.path().join("tls.key"), "no key").unwrap();
    fs::write(ours.path().join("ca.crt"), "no authority").unwrap();
    assert_eq!(
        client.check_alive().await.unwrap_err().kind(),
        "bad_certificate",
        "not PEM"
    );
    Authority::new().issue_into(ours.path());
    assert_eq!(
        client.check_alive().await.unwrap_err().kind(),
        "unreachable",
        "of strangers"
    );
    authority.issue_into(ours.path());
    client.check_alive().await.unwrap();
    // Half of the files are there while they are being replaced: the connection that is open serves on.
    fs::remove_file(ours.path().join("tls.key")).unwrap();
    client.check_alive().await.unwrap();
}

#[tokio::test]
async fn a_gcs_that_was_started_anew_is_another_cluster() {
    let first = RayHead::start(HeadOptions::default()).await;
    let client = first.client();
    let address = first.address().to_owned();
    client.get_cluster_resource_state().await.unwrap();
    let first_id = client.cluster_id().unwrap();
    assert_eq!(first_id.len(), 56);
    drop(first);
    let error = client.get_cluster_resource_state().await.unwrap_err();
    assert_eq!(error.kind(), "unreachable");

    let port = address.rsplit_once(':').unwrap().1.parse().ok();
    let second = RayHead::start(HeadOptions {
        port,
        ..HeadOptions::default()
    })
    .await;
    assert_eq!(second.address(), address);
    let error = client.get_cluster_resource_state().await.unwrap_err();
    assert!(matches!(&error, GcsError::OtherCluster { expected, .. } if *expected == first_id));
    let second_id = client.refresh_cluster_id().await.unwrap();
    assert_ne!(second_id, first_id);
    client.get_cluster_resource_state().await.unwrap();
    assert_eq!(client.cluster_id(), Some(second_id));
}
