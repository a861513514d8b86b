//! The files that say who may call, as settings name them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::AccessControl;
use crate::file::{parse_clients, read_clients_file};
use crate::followed_file::{FileFollower, FollowedFileKind};
use crate::policy::AccessPolicy;
use crate::signed::{SignedTokenVerifier, TokenKeys, read_token_keys_file};

static CLIENTS_FILE: FollowedFileKind = FollowedFileKind {
    name: "clients file",
    thread: "clients-file",
    loads_metric: "clients_file_loads_total",
    is_current_metric: "clients_file_is_current",
};

static TOKEN_KEYS_FILE: FollowedFileKind = FollowedFileKind {
    name: "token keys file",
    thread: "token-keys-file",
    loads_metric: "token_keys_file_loads_total",
    is_current_metric: "token_keys_file_is_current",
};

/// Maximum length of an audience in bytes.
const MAX_AUDIENCE_BYTES: usize = 255;

/// Settings of who may call, under their names.
#[derive(Debug, Clone, Default)]
pub struct AccessFiles {
    /// `clients`: the clients file.
    pub clients: Option<PathBuf>,
    /// `token-keys`: public keys of signed tokens.
    pub token_keys: Option<PathBuf>,
    /// `token-audience`: what `aud` of a signed token must contain.
    pub token_audience: Option<String>,
}

/// A setting that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessFilesError {
    /// Its name.
    pub setting: &'static str,
    /// The problem, without the file's path; holds no secret.
    pub reason: String,
}

fn refused(setting: &'static str, reason: impl Into<String>) -> AccessFilesError {
    AccessFilesError { setting, reason: reason.into() }
}

impl AccessFiles {
    /// Checks which settings are given; reads no file.
    pub fn check(&self) -> Result<(), AccessFilesError> {
        self.signed_token_settings().map(|_| ())
    }

    /// Reads the files and follows them from now on; `None` without a clients file.
    pub fn follow(self) -> Result<Option<AccessControl>, AccessFilesError> {
        let signed = self.signed_token_settings()?;
        let Some(path) = self.clients else { return Ok(None) };
        // Nobody may call until the file is read.
        let control = AccessControl::new(AccessPolicy::default());
        clients_follower(&path, control.clone())
            .start()
            .map_err(|reason| refused("clients", reason))?;
        if let Some((path, audience)) = signed {
            token_keys_follower(&path, audience, control.clone())
                .start()
                .map_err(|reason| refused("token-keys", reason))?;
        }
        Ok(Some(control))
    }

    /// Keys file and audience, which go together and with a clients file.
    fn signed_token_settings(&self) -> Result<Option<(PathBuf, Arc<str>)>, AccessFilesError> {
        let (keys, audience) = match (&self.token_keys, &self.token_audience) {
            (None, None) => return Ok(None),
            (Some(keys), Some(audience)) => (keys, audience),
            (Some(_), None) => {
                return Err(refused("token-keys", "needs --token-audience NAME, too"));
            }
            (None, Some(_)) => {
                return Err(refused("token-audience", "needs --token-keys FILE, too"));
            }
        };
        if self.clients.is_none() {
            let reason = "needs --clients FILE, too: there `subjects` say whose tokens are taken";
            return Err(refused("token-keys", reason));
        }
        let is_plain = (1..=MAX_AUDIENCE_BYTES).contains(&audience.len())
            && !audience.contains(char::is_control);
        if !is_plain {
            let reason =
                format!("must have 1 to {MAX_AUDIENCE_BYTES} bytes and no control characters");
            return Err(refused("token-audience", reason));
        }
        Ok(Some((keys.clone(), audience.as_str().into())))
    }
}

fn clients_follower(path: &Path, control: AccessControl) -> FileFollower {
    let read = |path: &Path| read_clients_file(path).map_err(|error| error.to_string());
    FileFollower::new(&CLIENTS_FILE, path, read, move |text| {
        parse_clients(text).map(|policy| {
            let clients = policy.clients().len();
            control.replace_policy(policy);
            clients
        })
    })
}

fn token_keys_follower(path: &Path, audience: Arc<str>, control: AccessControl) -> FileFollower {
    let read = |path: &Path| read_token_keys_file(path).map_err(|error| error.to_string());
    FileFollower::new(&TOKEN_KEYS_FILE, path, read, move |text| {
        TokenKeys::parse(text).map(|keys| {
            let count = keys.count();
            control.replace_verifier(SignedTokenVerifier::new(keys, Arc::clone(&audience)));
            count
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::net::IpAddr;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::denied::DenialReason;
    use crate::peer_token::bearer_header;
    use crate::signed::SignedTokenProblem;
    use crate::signed::signing::{AUDIENCE, Signer, claims_of, key_set};
    use crate::token::TokenHash;

    fn clients_text(name: &str, token: &str) -> String {
        let hash = TokenHash::of_token(token.as_bytes()).to_hex();
        format!(
            "clients: [{{name: {name}, scopes: [admin], subjects: [svc-{name}], \
             tokens: [{{sha256: \"{hash}\"}}]}}]"
        )
    }

    fn client_of(control: &AccessControl, token: &str) -> Result<String, DenialReason> {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, bearer_header(token).unwrap());
        let client = control.authenticate(&headers, None, IpAddr::from([127, 0, 0, 1]));
        client.map(|client| client.name().to_owned()).map_err(|denial| denial.reason)
    }

    #[test]
    fn a_good_clients_file_replaces_and_a_broken_one_does_not() {
        let control = AccessControl::new(AccessPolicy::default());
        let mut follower = clients_follower(Path::new(""), control.clone());
        follower.take(Ok(clients_text("a", "one")));
        assert_eq!(client_of(&control, "one"), Ok("a".to_owned()));
        for broken in ["", "clients: []", "clients: [", "nothing"] {
            follower.take(Ok(broken.to_owned()));
            assert_eq!(client_of(&control, "one"), Ok("a".to_owned()), "{broken}");
        }
        follower.take(Err("is gone".to_owned()));
        assert_eq!(client_of(&control, "one"), Ok("a".to_owned()));
        follower.take(Ok(clients_text("b", "two")));
        assert_eq!(client_of(&control, "one"), Err(DenialReason::UnknownToken));
        assert_eq!(client_of(&control, "two"), Ok("b".to_owned()));
    }

    #[test]
    fn a_good_keys_file_replaces_and_a_broken_one_does_not() {
        let control = AccessControl::new(parse_clients(&clients_text("a", "one")).unwrap());
        let mut follower = token_keys_follower(Path::new(""), AUDIENCE.into(), control.clone());
        let (old, new) = (Signer::ed25519("old"), Signer::es256("new"));
        let [old_token, new_token] = [&old, &new].map(|signer| signer.sign(&claims_of("svc-a")));
        assert_eq!(client_of(&control, &old_token), Err(DenialReason::UnknownToken));
        follower.take(Ok(key_set(&[&old])));
        assert_eq!(client_of(&control, &old_token), Ok("a".to_owned()));
        for broken in ["", "{}", "{\"keys\": []}", "[]", &key_set(&[&old, &old])] {
            follower.take(Ok(broken.to_owned()));
            assert_eq!(client_of(&control, &old_token), Ok("a".to_owned()), "{broken}");
        }
        follower.take(Err("is gone".to_owned()));
        follower.take(Ok(key_set(&[&old, &new])));
        assert_eq!(client_of(&control, &old_token), Ok("a".to_owned()));
        assert_eq!(client_of(&control, &new_token), Ok("a".to_owned()));
        follower.take(Ok(key_set(&[&new])));
        let unknown = DenialReason::WrongSignedToken(SignedTokenProblem::UnknownKey);
        assert_eq!(client_of(&control, &old_token), Err(unknown), "replayed after the rotation");
        assert_eq!(client_of(&control, &new_token), Ok("a".to_owned()));
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (clients, keys) = (folder.path().join("clients"), folder.path().join("keys"));
        std::fs::write(&clients, clients_text("a", "one")).unwrap();
        std::fs::set_permissions(&clients, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&keys, key_set(&[&Signer::ed25519("k")])).unwrap();
        let follow = |clients: Option<&Path>, keys: Option<&Path>, audience: Option<&str>| {
            let files = AccessFiles {
                clients: clients.map(Path::to_owned),
                token_keys: keys.map(Path::to_owned),
                token_audience: audience.map(str::to_owned),
            };
            files.follow().map(|control| control.is_some())
        };
        let (clients, keys) = (Some(clients.as_path()), Some(keys.as_path()));
        for (mode, part) in [(0o644, ""), (0o664, "chmod 644"), (0o646, "chmod 644"), (0o444, "")] {
            std::fs::set_permissions(keys.unwrap(), Permissions::from_mode(mode)).unwrap();
            let followed = follow(clients, keys, Some("x"));
            let reason = followed.map_or_else(|error| error.reason, |_| String::new());
            assert!(reason.contains(part) && part.is_empty() == reason.is_empty(), "{reason}");
        }
        assert_eq!(follow(None, None, None), Ok(false));
        assert_eq!(follow(clients, None, None), Ok(true));
        for (clients, keys, audience, setting, part) in [
            (None, keys, Some("x"), "token-keys", "--clients"),
            (clients, keys, None, "token-keys", "--token-audience"),
            (clients, None, Some("x"), "token-audience", "--token-keys"),
            (clients, keys, Some(""), "token-audience", "1 to 255"),
            (clients, clients, Some("x"), "token-keys", "is no JWKS"),
            (clients, Some(folder.path()), Some("x"), "token-keys", "regular file"),
            (keys, keys, Some("x"), "clients", "chmod 600"),
        ] {
            let error = follow(clients, keys, audience).unwrap_err();
            assert!(error.setting == setting && error.reason.contains(part), "{error:?}");
        }
    }
}
