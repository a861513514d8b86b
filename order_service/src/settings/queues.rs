//! Settings of FIFO queues: in Postgres or in Amazon SQS.

use std::collections::BTreeMap;
#[cfg(feature = "sqs")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use configurator::template::Env;
use queue::fifo::{SqsAccount, SqsCredentials, SqsEngine};
use serde::Deserialize;
use settings::{ResolvedSettings, SettingError};

#[cfg(feature = "sqs")]
use super::queue_keys::SqsFileKeys;

/// Entry for messages without an environment.
const DEFAULT_ENTRY: &str = "default";

/// Settings of queues and of the configurator.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// Engine from `--queue-engine`, or implied by other flags.
    pub engine: QueueEngine,
    /// `--answer-queue`: name without environment and suffix.
    pub answer_queue: String,
    /// `--block-timeout`: wait for an integration's answer.
    pub block_timeout: Duration,
    /// `--run-retention`: age at which ended runs are deleted.
    pub run_retention: Duration,
}

/// Engine of the FIFO queues.
#[derive(Debug, Clone)]
pub enum QueueEngine {
    /// Tables of the control database.
    Postgres,
    /// SQS queues of these accounts.
    Sqs(SqsAccounts),
}

/// SQS accounts by environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsAccounts {
    /// Proof that this program has the engine.
    pub compiled: SqsCompiled,
    /// Account for messages without an environment, such as background tasks.
    pub default: SqsAccount,
    /// Account of each environment; one without an entry has no queues.
    pub envs: BTreeMap<Env, SqsAccount>,
    /// File of the accounts, if `--queues` was given.
    pub file: Option<PathBuf>,
}

/// Proof that this program was built with the engine `sqs`.
#[cfg(feature = "sqs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqsCompiled;

/// Proof that this program was built with the engine `sqs`. It was not: the type has no value.
#[cfg(not(feature = "sqs"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqsCompiled {}

impl SqsCompiled {
    #[cfg(feature = "sqs")]
    fn check() -> Result<Self, String> {
        Ok(Self)
    }

    #[cfg(not(feature = "sqs"))]
    fn check() -> Result<Self, String> {
        Err(super::not_compiled("sqs"))
    }
}

impl SqsAccounts {
    /// Engine of one of the accounts, without connecting. Keys from the file are reloaded on use.
    #[cfg(feature = "sqs")]
    pub async fn open(&self, account: &SqsAccount) -> Arc<dyn SqsEngine> {
        let entry = match self.envs.iter().find(|(_, of_env)| std::ptr::eq(*of_env, account)) {
            Some((env, _)) => env.name(),
            None => DEFAULT_ENTRY,
        };
        let changing = self.file.clone().zip(account.credentials.clone());
        Arc::new(match changing {
            Some((file, read)) => {
                let keys = Arc::new(SqsFileKeys::new(file, entry.to_owned(), read));
                queue_sqs::SqsFifo::with_key_provider(account, keys).await
            }
            None => queue_sqs::SqsFifo::new(account).await,
        })
    }

    /// Unreachable: without the engine there is no `SqsAccounts` value.
    #[cfg(not(feature = "sqs"))]
    pub async fn open(&self, _account: &SqsAccount) -> Arc<dyn SqsEngine> {
        match self.compiled {}
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqsAccountsFile {
    queues: BTreeMap<String, SqsAccountEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqsAccountEntry {
    endpoint_url: Option<String>,
    region: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    secret_access_key_env: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    session_token: Option<String>,
    session_token_env: Option<String>,
    session_token_file: Option<PathBuf>,
}

/// A secret as configured: inline, environment variable or file.
struct SecretReference {
    name: &'static str,
    value: Option<String>,
    variable: Option<String>,
    file: Option<PathBuf>,
}

impl QueueSettings {
    /// Checks and types resolved settings.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        let answers: String = resolved.get_required("answer-queue")?;
        if !configurator::template::is_queue_name(&answers) {
            let reason = format!("`{answers}` is no queue name: 1 to 60 letters, digits, _ and -");
            return Err(resolved.invalid_setting("answer-queue", reason));
        }
        let block_timeout = resolved.get_duration("block-timeout")?;
        if block_timeout.is_zero() {
            return Err(
                resolved.invalid_setting("block-timeout", "must be longer than 0".to_owned())
            );
        }
        let run_retention = resolved.get_duration("run-retention")?;
        Ok(Self {
            engine: read_queue_engine(resolved)?,
            answer_queue: answers,
            block_timeout,
            run_retention,
        })
    }
}

fn read_queue_engine(resolved: &ResolvedSettings) -> Result<QueueEngine, SettingError> {
    let implied = super::is_setting_given(resolved, "sqs-endpoint-url")
        || super::is_setting_given(resolved, "queues");
    match resolved.get_optional::<String>("queue-engine")?.as_deref() {
        Some("postgres") => Ok(QueueEngine::Postgres),
        None if !implied => Ok(QueueEngine::Postgres),
        None | Some("sqs") => {
            let compiled = SqsCompiled::check()
                .map_err(|reason| resolved.invalid_setting("queue-engine", reason))?;
            read_sqs_accounts(resolved, compiled).map(QueueEngine::Sqs)
        }
        Some(other) => Err(resolved
            .invalid_setting("queue-engine", format!("`{other}` is neither postgres nor sqs"))),
    }
}

fn read_sqs_accounts(
    resolved: &ResolvedSettings,
    compiled: SqsCompiled,
) -> Result<SqsAccounts, SettingError> {
    let flags = SqsAccount {
        endpoint_url: resolved.get_optional("sqs-endpoint-url")?,
        region: resolved.get_optional("sqs-region")?,
        credentials: None,
    };
    if let Some(url) = &flags.endpoint_url {
        check_sqs_url(url)
            .map_err(|reason| resolved.invalid_setting("sqs-endpoint-url", reason))?;
    }
    let Some(file) = resolved.get_optional::<String>("queues")? else {
        let envs = Env::ALL.into_iter().map(|env| (env, flags.clone())).collect();
        return Ok(SqsAccounts { compiled, default: flags, envs, file: None });
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| resolved.invalid_setting("queues", format!("{file}: {error}")))?;
    let accounts = from_file(&text, flags, compiled)
        .map_err(|reason| resolved.invalid_setting("queues", format!("{file}: {reason}")))?;
    Ok(SqsAccounts { file: Some(file.into()), ..accounts })
}

fn check_sqs_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    // The error omits the URL, which holds a secret.
    if rest.unwrap_or(url).contains('@') {
        return Err(
            "must hold no user and no password: keys come from the environment or from --queues"
                .to_owned(),
        );
    }
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(()),
        _ => Err(format!("`{url}` is no URL such as https://sqs.eu-central-1.amazonaws.com")),
    }
}

/// Current keys of one entry of a file.
#[cfg(feature = "sqs")]
pub(super) fn read_entry_keys(file: &Path, entry: &str) -> Result<SqsCredentials, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut file: SqsAccountsFile = yaml::from_str(&text)?;
    let keys =
        file.queues.remove(entry).map(|entry| entry.into_credentials()).transpose()?.flatten();
    keys.ok_or_else(|| format!("{entry} has no keys any more"))
}

/// Fields missing in an entry come from the flags.
fn from_file(text: &str, flags: SqsAccount, compiled: SqsCompiled) -> Result<SqsAccounts, String> {
    let file: SqsAccountsFile = yaml::from_str(text)?;
    let mut accounts =
        SqsAccounts { compiled, default: flags.clone(), envs: BTreeMap::new(), file: None };
    for (name, entry) in file.queues {
        let account = entry.into_account(&flags).map_err(|reason| format!("{name}: {reason}"))?;
        match name.as_str() {
            DEFAULT_ENTRY => accounts.default = account,
            env => {
                let env = env
                    .parse::<Env>()
                    .map_err(|_| format!("`{env}` is not dev, test, prod or default"))?;
                accounts.envs.insert(env, account);
            }
        }
    }
    Ok(accounts)
}

impl SqsAccountEntry {
    fn into_account(self, flags: &SqsAccount) -> Result<SqsAccount, String> {
        if let Some(url) = &self.endpoint_url {
            check_sqs_url(url)?;
        }
        let (endpoint_url, region) = (self.endpoint_url.clone(), self.region.clone());
        let credentials = self.into_credentials()?;
        Ok(SqsAccount {
            endpoint_url: endpoint_url.or_else(|| flags.endpoint_url.clone()),
            region: region.or_else(|| flags.region.clone()),
            credentials,
        })
    }

    fn into_credentials(self) -> Result<Option<SqsCredentials>, String> {
        let secret = SecretReference {
            name: "secret_access_key",
            value: self.secret_access_key,
            variable: self.secret_access_key_env,
            file: self.secret_access_key_file,
        };
        let token = SecretReference {
            name: "session_token",
            value: self.session_token,
            variable: self.session_token_env,
            file: self.session_token_file,
        };
        match (self.access_key_id, secret.read()?, token.read()?) {
            (Some(access_key_id), Some(secret_access_key), session_token) => {
                Ok(Some(SqsCredentials { access_key_id, secret_access_key, session_token }))
            }
            (None, None, None) => Ok(None),
            (None, None, Some(_)) => {
                Err("session_token belongs to access_key_id and its secret".to_owned())
            }
            _ => Err("access_key_id and its secret belong together".to_owned()),
        }
    }
}

impl SecretReference {
    fn read(self) -> Result<Option<String>, String> {
        let name = self.name;
        match (self.value, self.variable, self.file) {
            (None, None, None) => Ok(None),
            (Some(secret), None, None) => Ok(Some(secret)),
            (None, Some(variable), None) => match std::env::var(&variable) {
                Ok(secret) if !secret.is_empty() => Ok(Some(secret)),
                _ => Err(format!("the variable {variable} is not set")),
            },
            (None, None, Some(file)) => {
                let read = std::fs::read_to_string(&file);
                Ok(Some(
                    read.map_err(|error| format!("{}: {error}", file.display()))?.trim().to_owned(),
                ))
            }
            _ => Err(format!("give one of {name}, {name}_env, {name}_file")),
        }
    }
}

#[cfg(all(test, feature = "sqs"))]
mod tests {
    use super::*;

    #[test]
    fn each_environment_has_its_own() {
        let text = "queues:\n  test: {endpoint_url: http://localhost:1, region: eu-west-1}\n  prod: {access_key_id: a, secret_access_key: s}\n";
        let flags = SqsAccount { region: Some("eu-central-1".to_owned()), ..SqsAccount::default() };
        let accounts = from_file(text, flags.clone(), SqsCompiled).unwrap();
        assert_eq!(accounts.default, flags);
        assert_eq!(accounts.envs.keys().copied().collect::<Vec<_>>(), [Env::Test, Env::Prod]);
        assert_eq!(accounts.envs[&Env::Test].region.as_deref(), Some("eu-west-1"));
        assert_eq!(accounts.envs[&Env::Prod].region.as_deref(), Some("eu-central-1"));
        assert!(accounts.envs[&Env::Prod].credentials.is_some());
        assert!(!format!("{accounts:?}").contains("\"s\""), "secrets are not shown");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("queues: {stage: {}}", "`stage` is not dev, test, prod or default"),
            ("queues: {dev: {endpoint_url: localhost}}", "dev: `localhost` is no URL"),
            ("queues: {dev: {endpoint_url: 'http://u:canary@h'}}", "dev: must hold no user"),
            (
                "queues: {dev: {access_key_id: a}}",
                "dev: access_key_id and its secret belong together",
            ),
            ("queues: {dev: {session_token: a}}", "dev: session_token belongs to access_key_id"),
            (
                "queues: {dev: {access_key_id: a, secret_access_key: b, session_token: c, session_token_env: D}}",
                "dev: give one of session_token, session_token_env, session_token_file",
            ),
            ("queues: {dev: {regoin: a}}", "regoin"),
            (
                "queues: {dev: {secret_access_key_env: NO_SUCH_VARIABLE_HERE}}",
                "dev: the variable NO_SUCH_VARIABLE_HERE is not set",
            ),
        ] {
            let reason = from_file(text, SqsAccount::default(), SqsCompiled).unwrap_err();
            assert!(reason.contains(expected) && !reason.contains("canary"), "{text}: {reason}");
        }
    }
}
