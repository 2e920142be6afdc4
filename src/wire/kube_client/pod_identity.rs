//! Which pod we are, as the token of its ServiceAccount says it.
//!
//! The container is told the pod's name only, and the operator gives that name to the next head pod
//! as well. A token that the kubelet has mounted carries the pod's UID; nothing here trusts it for
//! more than that, so its signature is the API server's business.

use serde::Deserialize;

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Pod,
}

#[derive(Deserialize)]
struct Pod {
    uid: String,
}

/// Returns the UID of the pod that a token was made for; `None` where it was made for none.
#[must_use]
pub fn pod_uid(token: &str) -> Option<String> {
    let payload = token.trim().split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&from_base64_url(payload)?).ok()?;
    Some(claims.kubernetes.pod.uid).filter(|uid| !uid.is_empty())
}

/// Returns what is written in base64url, with padding or without.
fn from_base64_url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xf_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{from_base64_url, pod_uid};

    #[test]
    fn a_mounted_token_names_its_pod() {
        // {"kubernetes.io":{"namespace":"n","pod":{"name":"c-head","uid":"u-1"}},"sub":"x"}
        let payload = "eyJrdWJlcm5ldGVzLmlvIjp7Im5hbWVzcGFjZSI6Im4iLCJwb2QiOnsibmFtZSI6ImMtaGVhZCIsInVpZCI6InUtMSJ9fSwic3ViIjoieCJ9";
        assert_eq!(
            pod_uid(&format!("e30.{payload}.sig\n")).as_deref(),
            Some("u-1")
        );
        // {"sub":"x"}: a token that somebody asked for without a pod.
        assert_eq!(pod_uid("e30.eyJzdWIiOiJ4In0.sig"), None);
        for broken in ["", "a", "a.b.c", "e30.!!.x", "e30.e30.x"] {
            assert_eq!(pod_uid(broken), None, "{broken}");
        }
    }

    #[test]
    fn base64url_is_read_with_and_without_padding() {
        assert_eq!(from_base64_url("_-8").as_deref(), Some(&[0xff, 0xef][..]));
        assert_eq!(from_base64_url("_-8=").as_deref(), Some(&[0xff, 0xef][..]));
        assert_eq!(from_base64_url("TWFu").as_deref(), Some(&b"Man"[..]));
    }
}
