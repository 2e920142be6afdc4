//! Who is calling: bearer tokens, those of the administrator and of ServiceAccounts.

use super::State;
use super::kinds::Kind;
use super::refusal::{Cause, Refusal};
use super::request::Target;
use super::store::Key;
use crate::embedded::kube_time;
use crate::model::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A token lives an hour if nothing else is asked for.
const EXPIRATION_SECS: u64 = 3600;
const EXPIRATION_SECS_MIN: u64 = 600;

/// Somebody who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
}

impl User {
    /// Returns true for those who may do everything.
    pub(super) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }

    fn new(name: &str, uid: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            uid: uid.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }
}

/// The tokens that are accepted.
#[derive(Debug)]
pub(super) struct Tokens {
    admin: String,
    issued: BTreeMap<String, Issued>,
}

/// A token of a ServiceAccount.
#[derive(Debug, Clone)]
struct Issued {
    namespace: String,
    account: String,
    /// The ServiceAccount's; one that was made anew has tokens of its own.
    uid: String,
    expires: Timestamp,
}

impl Tokens {
    pub(super) fn new(admin: &str) -> Self {
        Self {
            admin: admin.to_owned(),
            issued: BTreeMap::new(),
        }
    }
}

impl State {
    /// Returns who holds the token of an `Authorization` header; without one it is nobody in particular.
    pub(super) fn authenticate(&self, authorization: Option<&str>) -> Result<User, Refusal> {
        let Some(token) = authorization.and_then(|text| text.strip_prefix("Bearer ")) else {
            return Ok(User::new(
                "system:anonymous",
                "",
                &["system:unauthenticated"],
            ));
        };
        let token = token.trim();
        if token == self.tokens.admin {
            return Ok(User::new(
                "admin",
                "1",
                &["system:masters", "system:authenticated"],
            ));
        }
        let issued = self.tokens.issued.get(token);
        let issued = issued.ok_or_else(Refusal::unauthorized)?;
        let accounts = Key {
            plural: "serviceaccounts",
            namespace: issued.namespace.clone(),
            name: issued.account.clone(),
        };
        let account = self.store.get(&accounts);
        let is_the_same = account.is_some_and(|it| it["metadata"]["uid"] == *issued.uid);
        if !is_the_same || (self.now)() >= issued.expires {
            return Err(Refusal::unauthorized());
        }
        let group = format!("system:serviceaccounts:{}", issued.namespace);
        let name = format!(
            "system:serviceaccount:{}:{}",
            issued.namespace, issued.account
        );
        let groups = ["system:serviceaccounts", &group, "system:authenticated"];
        Ok(User::new(&name, &issued.uid, &groups))
    }

    /// Issues a token for a ServiceAccount.
    pub(super) fn issue_token(
        &mut self,
        target: &Target,
        request: Value,
    ) -> Result<Value, Refusal> {
        let account = self.find(target)?;
        let asked = request["spec"]["expirationSeconds"].as_u64();
        let secs = asked.unwrap_or(EXPIRATION_SECS);
        if secs < EXPIRATION_SECS_MIN {
            let problem = "may not specify a duration less than 10 minutes";
            let cause = Cause::invalid("spec.expirationSeconds", &json!(secs), problem);
            return Err(Refusal::invalid(&TOKEN_REQUEST, "", &[cause]));
        }
        let expires = (self.now)().plus_ms(secs.saturating_mul(1000));
        let numbers: Vec<String> = (0..4)
            .map(|_| format!("{:016x}", self.seeded.next()))
            .collect();
        let token = numbers.concat();
        let issued = Issued {
            namespace: target.namespace.clone().unwrap_or_default(),
            account: target.name.clone(),
            uid: account["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            expires,
        };
        self.tokens.issued.insert(token.clone(), issued);
        let audiences = match &request["spec"]["audiences"] {
            Value::Array(asked) if !asked.is_empty() => json!(asked),
            _ => json!(["https://kubernetes.default.svc"]),
        };
        Ok(json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": target.name, "namespace": target.namespace,
                "creationTimestamp": kube_time((self.now)()),
            },
            "spec": {
                "audiences": audiences, "expirationSeconds": secs, "boundObjectRef": null,
            },
            "status": {"token": token, "expirationTimestamp": kube_time(expires)},
        }))
    }
}

/// Answers to token requests only; there are no such objects.
const TOKEN_REQUEST: Kind = Kind {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
    plural: "tokenrequests",
    singular: "tokenrequest",
    short_names: &[],
    is_namespaced: true,
    has_generation: false,
    subresources: &[],
    selectable: &[],
    read: None,
    columns: &[],
};
