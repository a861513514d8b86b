//! The clients file: YAML, read strictly. A wrong file is refused with line and field.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use yaml::{FieldPath, YamlNode};

use crate::certificate::check_certificate_name;
use crate::clients_file_error::ClientsFileError;
use crate::place::{Fields, Place};
use crate::policy::{AccessPolicy, Client};
use crate::private_file::read_private_file;
use crate::scope::GrantedScopes;
use crate::signed::check_subject;
use crate::token::TokenHash;

/// Maximum size of the file in bytes.
const MAX_CLIENTS_FILE_BYTES: u64 = 1 << 20;
/// Maximum number of clients.
const MAX_CLIENTS: usize = 1000;
/// Maximum number of tokens of a client: the old one and the new ones of a rotation.
const MAX_TOKENS: usize = 20;
/// Maximum number of subjects, and of certificates' names, of a client.
const MAX_CREDENTIAL_NAMES: usize = 20;
/// Maximum number of scopes of a client.
const MAX_SCOPES: usize = 200;
/// Maximum length of a client's name in bytes.
const MAX_NAME_BYTES: usize = 100;
/// Names of authors that are no clients.
const RESERVED_NAMES: [&str; 3] = ["anonymous", "builtin", "platform"];

/// Maximum rate (requests a second) and concurrency of a client.
const MAX_LIMIT: u64 = 1_000_000;

const CLIENT_FIELDS: [&str; 7] =
    ["name", "scopes", "tokens", "certificates", "subjects", "rate", "concurrency"];
const TOKEN_FIELDS: [&str; 2] = ["sha256", "expires"];

/// Text of the file at `path`, if it belongs to this user or root and nobody else may use it.
pub fn read_clients_file(path: &Path) -> Result<String, ClientsFileError> {
    read_private_file(path, MAX_CLIENTS_FILE_BYTES).map_err(ClientsFileError::of_file)
}

/// Parses the text of a clients file.
pub fn parse_clients(text: &str) -> Result<AccessPolicy, ClientsFileError> {
    if text.trim().is_empty() {
        return Err(ClientsFileError::of_file("is empty: it must name at least one client"));
    }
    let tree = yaml::read_tree(text).map_err(|problem| ClientsFileError {
        line: Some(problem.line),
        field: String::new(),
        reason: problem.reason,
    })?;
    let root = Place { tree: &tree, field: FieldPath::default() };
    let fields = root.read_fields(&["clients"])?;
    let clients = fields.required("clients")?;
    let items = clients.read_items(1..=MAX_CLIENTS, "clients")?;
    let mut seen = SeenNames::default();
    let clients: Result<Vec<Client>, _> =
        items.iter().map(|item| read_client(item, &mut seen)).collect();
    clients.map(AccessPolicy::new)
}

/// What was read so far and is unique in the file.
#[derive(Default)]
struct SeenNames {
    names: HashSet<String>,
    owners: HashMap<TokenHash, String>,
    subject_owners: HashMap<String, String>,
    certificate_owners: HashMap<String, String>,
}

fn read_client(place: &Place<'_>, seen: &mut SeenNames) -> Result<Client, ClientsFileError> {
    let fields = place.read_fields(&CLIENT_FIELDS)?;
    let name = read_client_name(&fields.required("name")?, seen)?;
    let scopes = read_scopes(&fields.required("scopes")?)?;
    let tokens = match fields.optional("tokens") {
        Some(place) => read_tokens(&place, &name, seen)?,
        None => Vec::new(),
    };
    let subjects = match fields.optional("subjects") {
        Some(place) => {
            let owners = &mut seen.subject_owners;
            read_credential_names(&place, "subject", &name, owners, check_subject)?
        }
        None => Vec::new(),
    };
    let certificates = match fields.optional("certificates") {
        Some(place) => {
            let owners = &mut seen.certificate_owners;
            read_credential_names(&place, "certificate", &name, owners, check_certificate_name)?
        }
        None => Vec::new(),
    };
    if tokens.is_empty() && subjects.is_empty() && certificates.is_empty() {
        let reason = "needs one of the fields `tokens`, `subjects` and `certificates`";
        return Err(place.error(reason));
    }
    let (rate, concurrency) = (read_limit(&fields, "rate")?, read_limit(&fields, "concurrency")?);
    Ok(Client { name, scopes, tokens, subjects, certificates, rate, concurrency })
}

fn read_tokens(
    place: &Place<'_>,
    client: &str,
    seen: &mut SeenNames,
) -> Result<Vec<ExpiringToken>, ClientsFileError> {
    let mut tokens = Vec::new();
    for place in place.read_items(1..=MAX_TOKENS, "tokens")? {
        let (hash, expires) = read_token(&place)?;
        if let Some(owner) = seen.owners.insert(hash, client.to_owned()) {
            let reason = format!("the client `{owner}` has this token already");
            return Err(place.error(reason));
        }
        tokens.push((hash, expires));
    }
    Ok(tokens)
}

/// Names by which credentials are recognised as this client's and no other's.
fn read_credential_names(
    place: &Place<'_>,
    what: &str,
    client: &str,
    owners: &mut HashMap<String, String>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<String>, ClientsFileError> {
    let mut names = Vec::new();
    for place in place.read_items(1..=MAX_CREDENTIAL_NAMES, &format!("{what}s"))? {
        let name = place.read_text()?;
        check(name).map_err(|reason| place.error(reason))?;
        if let Some(owner) = owners.insert(name.to_owned(), client.to_owned()) {
            let reason = format!("the client `{owner}` has this {what} already");
            return Err(place.error(reason));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn read_limit(fields: &Fields<'_, '_>, name: &str) -> Result<Option<u32>, ClientsFileError> {
    let Some(place) = fields.optional(name) else { return Ok(None) };
    let number = match place.tree.as_node() {
        YamlNode::Scalar(value) => value.as_u64().filter(|number| *number <= MAX_LIMIT),
        _ => None,
    };
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => {
            let reason = format!("must be a whole number from 0 (no limit) to {MAX_LIMIT}");
            Err(place.error(reason))
        }
    }
}

fn read_client_name(place: &Place<'_>, seen: &mut SeenNames) -> Result<String, ClientsFileError> {
    let name = place.read_text()?;
    let is_plain = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-@".contains(&byte));
    if !is_plain {
        let reason = format!(
            "must have 1 to {MAX_NAME_BYTES} letters, digits, `_`, `-`, `.` or `@`, and begin \
             with a letter or digit"
        );
        return Err(place.error(reason));
    }
    if RESERVED_NAMES.contains(&name) {
        return Err(place.error(format!("`{name}` is reserved")));
    }
    if !seen.names.insert(name.to_owned()) {
        return Err(place.error(format!("another client is named `{name}`")));
    }
    Ok(name.to_owned())
}

fn read_scopes(place: &Place<'_>) -> Result<GrantedScopes, ClientsFileError> {
    let mut scopes = GrantedScopes::default();
    for item in place.read_items(1..=MAX_SCOPES, "scopes")? {
        let text = item.read_text()?;
        match scopes.add_parsed(text) {
            Ok(true) => {}
            Ok(false) => {
                return Err(item.error(format!("`{text}` is there twice")));
            }
            Err(error) => return Err(item.error(error.to_string())),
        }
    }
    Ok(scopes)
}

/// The hash of a token, and the moment from which it is refused.
type ExpiringToken = (TokenHash, Option<DateTime<Utc>>);

fn read_token(place: &Place<'_>) -> Result<ExpiringToken, ClientsFileError> {
    let fields = place.read_fields(&TOKEN_FIELDS)?;
    let digest = fields.required("sha256")?;
    let Some(hash) = digest.read_text().ok().and_then(TokenHash::parse_hex) else {
        // The text is not shown: somebody may have written the token itself.
        let reason = "must be the SHA-256 of a token: 64 hexadecimal digits, in quotes";
        return Err(digest.error(reason));
    };
    let Some(place) = fields.optional("expires") else { return Ok((hash, None)) };
    let expires = place.read_text().ok().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    match expires {
        Some(expires) => Ok((hash, Some(expires.to_utc()))),
        None => Err(place.error("must be a time such as 2027-01-31T00:00:00Z")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::TokenLookup;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const OTHER: &str = "aa7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn client_yaml(name: &str, hash: &str) -> String {
        format!(
            "  - name: {name}\n    scopes: [orders:read]\n    tokens: [{{sha256: \"{hash}\"}}]\n"
        )
    }

    #[test]
    fn a_good_file_is_read() {
        let text = format!(
            "clients:\n  - name: robot-graph\n    scopes: [events:read, \"ledger:write:storage_outflow\"]\n    rate: 50\n    \
             tokens: [{{sha256: \"{HASH}\", expires: 2027-01-31T00:00:00Z}}, {{sha256: \"{OTHER}\"}}]\n"
        );
        let policy = parse_clients(&text).unwrap();
        let [client] = policy.clients() else { panic!("{policy:?}") };
        assert_eq!(client.name, "robot-graph");
        assert_eq!((client.rate, client.concurrency), (Some(50), None));
        assert_eq!(client.scopes.names(), ["events:read", "ledger:write:storage_outflow"]);
        let at = "2027-01-31T00:00:00Z".parse().unwrap();
        let found = policy.find_token(&TokenHash::of_token(b"abc"), at);
        assert!(matches!(found, TokenLookup::Expired(_)), "{found:?}");
    }

    #[test]
    fn a_subject_names_its_client_exactly() {
        let text = "clients: [{name: a, scopes: [admin], subjects: [svc-a, \"spiffe://x/a b\"]}]";
        let policy = parse_clients(text).unwrap();
        let name_of = |subject| policy.find_subject(subject).map(|client| client.name.as_str());
        assert_eq!(name_of("svc-a"), Some("a"));
        assert_eq!(name_of("spiffe://x/a b"), Some("a"));
        for other in ["", "a", "SVC-A", "svc-a ", "svc-", "svc-a\0"] {
            assert_eq!(name_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_with_line_and_field() {
        let good = client_yaml("a", HASH);
        let with = |from: &str, to: &str| format!("clients:\n{}", good.replace(from, to));
        let cases = [
            (String::new(), "is empty"),
            (" \n\t\n".to_owned(), "is empty"),
            ("# nothing\n".to_owned(), "must be a mapping"),
            ("[]".to_owned(), "must be a mapping"),
            ("clients:\n".to_owned(), "line 1: clients: must be a list"),
            ("clients: []\n".to_owned(), "clients: must hold 1 to 1000 clients, not 0"),
            ("client: []\n".to_owned(), "line 1: client: is not known, did you mean `clients`?"),
            (
                with("name: a", "nam: a"),
                "line 2: clients[0].nam: is not known, did you mean `name`?",
            ),
            (with("name: a", "name: 7"), "clients[0].name: must be text"),
            (with("name: a", "name: 'a b'"), "clients[0].name: must have 1 to 100"),
            (with("name: a", "name: builtin"), "`builtin` is reserved"),
            (with("[orders:read]", "[]"), "line 3: clients[0].scopes: must hold 1 to 200"),
            (
                with("[orders:read]", "[order:read]"),
                "line 3: clients[0].scopes[0]: `order:read` is not a scope, did you mean",
            ),
            (with("[orders:read]", "[admin, admin]"), "scopes[1]: `admin` is there twice"),
            (with(&HASH[..9], "no"), "line 4: clients[0].tokens[0].sha256: must be the SHA-256"),
            (with("sha256:", "sha1:"), "clients[0].tokens[0].sha1: is not known"),
            (with("\"}", "\", expires: tomorrow}"), "tokens[0].expires: must be a time"),
            (with("tokens:", "rate: -1\n    tokens:"), "line 4: clients[0].rate: must be a whole"),
            (
                with("tokens:", "concurrency: '7'\n    tokens:"),
                "clients[0].concurrency: must be a whole number from 0 (no limit) to 1000000",
            ),
            (
                with("tokens:", "subjects: []\n    tokens:"),
                "line 4: clients[0].subjects: must hold 1",
            ),
            (with("tokens:", "subjects: [7]\n    tokens:"), "clients[0].subjects[0]: must be text"),
            (with("tokens:", "subjects: [' a']\n    tokens:"), "subjects[0]: must have 1 to 255"),
            (
                with("tokens:", "subjects: [\"a\\n\"]\n    tokens:"),
                "subjects[0]: must have 1 to 255",
            ),
            (
                with("tokens:", "subjects: [s, s]\n    tokens:"),
                "line 4: clients[0].subjects[1]: the client `a` has this subject already",
            ),
            (
                format!(
                    "clients:\n{}{}",
                    good.replace("tokens:", "subjects: [s]\n    tokens:"),
                    "  - {name: b, scopes: [admin], subjects: [s]}\n"
                ),
                "line 6: clients[1].subjects[0]: the client `a` has this subject already",
            ),
            (
                with("tokens:", "certificates: []\n    tokens:"),
                "line 4: clients[0].certificates: must hold 1 to 20 certificates, not 0",
            ),
            (
                with("tokens:", "certificates: ['robot']\n    tokens:"),
                "line 4: clients[0].certificates[0]: must begin with `dns:` or `uri:`",
            ),
            (
                with("tokens:", "certificates: ['dns:a', 'dns:a']\n    tokens:"),
                "clients[0].certificates[1]: the client `a` has this certificate already",
            ),
            (with("    tokens: ", "    # "), "clients[0]: needs one of the fields `tokens`, `subj"),
            (
                format!("clients:\n{good}{}", client_yaml("a", OTHER)),
                "clients[1].name: another client is named `a`",
            ),
            (
                format!("clients:\n{good}{}", client_yaml("b", HASH)),
                "clients[1].tokens[0]: the client `a` has this token",
            ),
            (format!("clients:\n{good}clients: []\n"), "is there twice"),
        ];
        for (text, expected) in cases {
            let error = parse_clients(&text).map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}\n{error}\nexpected {expected}");
        }
    }

    #[test]
    fn a_token_written_in_the_place_of_its_hash_is_not_shown() {
        let text = format!("clients:\n{}", client_yaml("a", "op_canary"));
        let error = parse_clients(&text).map(drop).unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn only_a_private_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.yaml");
        assert!(read_clients_file(&path).is_err());
        std::fs::write(&path, "text").unwrap();
        for (mode, is_read) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o620, false),
            (0o602, false),
            (0o601, false),
        ] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_clients_file(&path).is_ok(), is_read, "{mode:o}");
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_clients_file(&link).unwrap(), "text");
        assert!(read_clients_file(folder.path()).is_err());
        nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = read_clients_file(&folder.path().join("pipe")).unwrap_err();
        assert!(error.to_string().contains("regular"), "{error}");
        std::fs::write(&path, vec![b'#'; 1 + MAX_CLIENTS_FILE_BYTES as usize]).unwrap();
        let error = read_clients_file(&path).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_policy_without_clients(text in "[a-z: \\[\\]{}\n\"-]{0,200}") {
            if let Ok(policy) = parse_clients(&text) {
                prop_assert!(!policy.clients().is_empty());
            }
        }
    }
}
