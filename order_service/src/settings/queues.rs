//! Where FIFO queues are: in Postgres, or at Amazon SQS.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use configurator::template::Env;
use queue::fifo::{SqsAccount, SqsCredentials, SqsEngine};
use serde::Deserialize;
use settings::{Resolved, SettingError, Source};

/// `--queue-engine` and what belongs to it, and the configurator's own.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// Where the queues are.
    pub engine: QueueEngine,
    /// `--answer-queue`
    pub answers: String,
    /// `--block-timeout`
    pub block_timeout: Duration,
    /// `--run-retention`
    pub run_retention: Duration,
}

/// Where the queues are.
#[derive(Debug, Clone)]
pub enum QueueEngine {
    /// In the control database.
    Postgres,
    /// At these accounts.
    Sqs(SqsAccounts),
}

/// Accounts by environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsAccounts {
    /// That this program has the engine.
    pub compiled: SqsCompiled,
    /// For what belongs to no environment, such as background tasks.
    pub default: SqsAccount,
    /// Of the environments there are.
    pub envs: BTreeMap<Env, SqsAccount>,
}

/// Proof that this program was built with the engine `sqs`.
#[cfg(feature = "sqs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqsCompiled;

/// Proof that this program was built with the engine `sqs`. It was not: there is no value of this type.
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
    /// The queues of one of the accounts. Nothing is connected yet.
    #[cfg(feature = "sqs")]
    pub async fn open(&self, account: &SqsAccount) -> Arc<dyn SqsEngine> {
        Arc::new(queue_sqs::SqsFifo::new(account).await)
    }

    /// Never called: there are no such accounts.
    #[cfg(not(feature = "sqs"))]
    pub async fn open(&self, _account: &SqsAccount) -> Arc<dyn SqsEngine> {
        match self.compiled {}
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    queues: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    endpoint_url: Option<String>,
    region: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    secret_access_key_env: Option<String>,
    secret_access_key_file: Option<PathBuf>,
}

impl QueueSettings {
    /// From resolved settings.
    pub fn new(resolved: &Resolved) -> Result<Self, SettingError> {
        let answers: String = resolved.required("answer-queue")?;
        if !configurator::template::is_queue(&answers) {
            let reason = format!("`{answers}` is no queue name: 1 to 60 letters, digits, _ and -");
            return Err(resolved.invalid("answer-queue", reason));
        }
        let block_timeout = resolved.duration("block-timeout")?;
        if block_timeout.is_zero() {
            return Err(resolved.invalid("block-timeout", "must be longer than 0".to_owned()));
        }
        let run_retention = resolved.duration("run-retention")?;
        Ok(Self { engine: engine(resolved)?, answers, block_timeout, run_retention })
    }
}

fn engine(resolved: &Resolved) -> Result<QueueEngine, SettingError> {
    let given = |name: &str| resolved.value(name).is_some_and(|value| value.from != Source::Default);
    let implied = given("sqs-endpoint-url") || given("queues");
    match resolved.optional::<String>("queue-engine")?.as_deref() {
        Some("postgres") => Ok(QueueEngine::Postgres),
        None if !implied => Ok(QueueEngine::Postgres),
        None | Some("sqs") => {
            let compiled = SqsCompiled::check().map_err(|reason| resolved.invalid("queue-engine", reason))?;
            accounts(resolved, compiled).map(QueueEngine::Sqs)
        }
        Some(other) => {
            Err(resolved.invalid("queue-engine", format!("`{other}` is neither postgres nor sqs")))
        }
    }
}

fn accounts(resolved: &Resolved, compiled: SqsCompiled) -> Result<SqsAccounts, SettingError> {
    let flags = SqsAccount {
        endpoint_url: resolved.optional("sqs-endpoint-url")?,
        region: resolved.optional("sqs-region")?,
        credentials: None,
    };
    if let Some(url) = &flags.endpoint_url {
        check_url(url).map_err(|reason| resolved.invalid("sqs-endpoint-url", reason))?;
    }
    let Some(file) = resolved.optional::<String>("queues")? else {
        let envs = Env::ALL.into_iter().map(|env| (env, flags.clone())).collect();
        return Ok(SqsAccounts { compiled, default: flags, envs });
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| resolved.invalid("queues", format!("{file}: {error}")))?;
    from_file(&text, flags, compiled)
        .map_err(|reason| resolved.invalid("queues", format!("{file}: {reason}")))
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    // Not shown: it would be a secret.
    if rest.unwrap_or(url).contains('@') {
        return Err(
            "must hold no user and no password: keys come from the environment or from --queues".to_owned()
        );
    }
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(()),
        _ => Err(format!("`{url}` is no URL such as https://sqs.eu-central-1.amazonaws.com")),
    }
}

/// What an entry does not say is as the flags say.
fn from_file(text: &str, flags: SqsAccount, compiled: SqsCompiled) -> Result<SqsAccounts, String> {
    let file: File = reconcile::yaml::from_str(text)?;
    let mut accounts = SqsAccounts { compiled, default: flags.clone(), envs: BTreeMap::new() };
    for (name, entry) in file.queues {
        let account = entry.account(&flags).map_err(|reason| format!("{name}: {reason}"))?;
        match name.as_str() {
            "default" => accounts.default = account,
            env => {
                let env =
                    env.parse::<Env>().map_err(|_| format!("`{env}` is not dev, test, prod or default"))?;
                accounts.envs.insert(env, account);
            }
        }
    }
    Ok(accounts)
}

impl Entry {
    fn account(self, flags: &SqsAccount) -> Result<SqsAccount, String> {
        if let Some(url) = &self.endpoint_url {
            check_url(url)?;
        }
        let secrets = [
            self.secret_access_key.is_some(),
            self.secret_access_key_env.is_some(),
            self.secret_access_key_file.is_some(),
        ];
        if secrets.iter().filter(|given| **given).count() > 1 {
            return Err(
                "give one of secret_access_key, secret_access_key_env, secret_access_key_file".to_owned()
            );
        }
        let secret = match (self.secret_access_key, self.secret_access_key_env, self.secret_access_key_file) {
            (Some(secret), ..) => Some(secret),
            (_, Some(variable), _) => Some(
                std::env::var(&variable)
                    .ok()
                    .filter(|text| !text.is_empty())
                    .ok_or_else(|| format!("the variable {variable} is not set"))?,
            ),
            (.., Some(file)) => {
                let read = std::fs::read_to_string(&file);
                Some(read.map_err(|error| format!("{}: {error}", file.display()))?.trim().to_owned())
            }
            _ => None,
        };
        let credentials = match (self.access_key_id, secret) {
            (Some(access_key_id), Some(secret_access_key)) => {
                Some(SqsCredentials { access_key_id, secret_access_key })
            }
            (None, None) => None,
            _ => return Err("access_key_id and its secret belong together".to_owned()),
        };
        Ok(SqsAccount {
            endpoint_url: self.endpoint_url.or_else(|| flags.endpoint_url.clone()),
            region: self.region.or_else(|| flags.region.clone()),
            credentials,
        })
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
            ("queues: {dev: {access_key_id: a}}", "dev: access_key_id and its secret belong together"),
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
