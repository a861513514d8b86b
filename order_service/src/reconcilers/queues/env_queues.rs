//! FIFO queue catalogues of the environments, by the configured engine.

use std::sync::Arc;

use configurator::template::Env;
use futures::future::BoxFuture;
use queue::fifo::{FifoCatalogue, PgFifoCatalogue, SqsEngine};
use sqlx::PgPool;
use tokio::sync::OnceCell;

use super::{EnvCatalogueResult, EnvQueues};
use crate::settings::{QueueEngine, SqsAccounts};

/// With Postgres, the queues of all environments are in one control database.
impl EnvQueues for PgPool {
    fn catalogue_of<'a>(&'a self, _: &'a str) -> BoxFuture<'a, EnvCatalogueResult> {
        let catalogue: Arc<dyn FifoCatalogue> = Arc::new(PgFifoCatalogue(self.clone()));
        Box::pin(std::future::ready(Ok(Some(catalogue))))
    }

    fn can_be_unavailable(&self) -> bool {
        false
    }
}

/// With SQS, each environment has an account; its client is created on first use.
struct SqsEnvQueues {
    accounts: SqsAccounts,
    engines: [OnceCell<Arc<dyn SqsEngine>>; Env::ALL.len()],
}

impl EnvQueues for SqsEnvQueues {
    fn catalogue_of<'a>(&'a self, env: &'a str) -> BoxFuture<'a, EnvCatalogueResult> {
        Box::pin(async move {
            let env: Env = env.parse()?;
            let opened = Env::ALL.iter().zip(&self.engines).find(|(known, _)| **known == env);
            let Some(((_, opened), account)) = opened.zip(self.accounts.envs.get(&env)) else {
                return Ok(None);
            };
            let engine = opened.get_or_init(|| self.accounts.open(account)).await;
            Ok(Some(engine.clone() as Arc<dyn FifoCatalogue>))
        })
    }

    fn can_be_unavailable(&self) -> bool {
        true
    }
}

/// Catalogues for the engine of the settings; `pool` is the control database.
#[cfg_attr(not(feature = "sqs"), allow(unreachable_code))] // no accounts without the engine
pub fn build_env_queues(engine: &QueueEngine, pool: &PgPool) -> Arc<dyn EnvQueues> {
    match engine {
        QueueEngine::Postgres => Arc::new(pool.clone()),
        QueueEngine::Sqs(accounts) => {
            Arc::new(SqsEnvQueues { accounts: accounts.clone(), engines: Default::default() })
        }
    }
}
