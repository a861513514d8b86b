//! The configurator of a process: what its routes and commands ask for, and what its role does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use queue::fifo::{
    FifoConsumerOptions, FifoEngine, FifoQueue, FifoQueuePair, FifoTxSender, consume_messages,
};
use serde_json::{Map, Value as Json};
use serving::compute::{self, ComputeError};
use sqlx::PgPool;
use store::PgNotificationHub;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::answers::BlockAnswerWriter;
use crate::environments::EnvironmentsInUse;
use crate::queues::{OptionalDeadLetterQueue, wait_for_queue};
use crate::run::{
    self, BeginRunOutcome, BlockForecast, NewRun, RunControlOutcome, RunDriver, RunView,
};
use crate::template::{self, BlockGraph, BlockTemplateFault, Env, check_template_name};
use crate::template_store;

/// Answers in work at a time, for each environment.
const ANSWER_CONCURRENCY: usize = 200;
/// How often ended runs are forgotten.
const FORGET_RUNS_INTERVAL: Duration = Duration::from_secs(600);

/// What the settings say.
#[derive(Debug, Clone)]
pub struct ConfiguratorSettings {
    /// How long a block may take that says nothing of it.
    pub block_timeout: Duration,
    /// The answers' queue, without environment and ending.
    pub answers: String,
    /// How long runs that have ended are kept.
    pub retention: Duration,
}

/// The configurator of a process; clones share it.
#[derive(Clone)]
pub struct Configurator {
    /// The control database.
    pub pool: PgPool,
    /// Must listen on [`run_for_request::RUNS_CHANNEL`].
    pub notifications: PgNotificationHub,
    /// What the settings say.
    pub settings: ConfiguratorSettings,
    /// Where queues are, by environment.
    pub engines: HashMap<Env, Arc<dyn FifoEngine>>,
    /// Sends to them within transactions.
    pub senders: HashMap<Env, Arc<dyn FifoTxSender>>,
    /// Those that have instances.
    pub environments: EnvironmentsInUse,
}

/// What a run is asked for with.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The instance's template name.
    pub template_name: String,
    /// The template; the one that was put under the name if nothing is said.
    pub template: Option<String>,
    /// The instance's environment.
    pub env: Env,
    /// The template's general inputs.
    pub general_inputs: Map<String, Json>,
    /// The template's inputs that depend on the environment.
    pub env_inputs: Map<String, Json>,
}

/// Why something was not done.
#[derive(Debug, Clone)]
pub enum ConfiguratorError {
    /// The template is wrong.
    Template(Vec<BlockTemplateFault>),
    /// A field of what was given is wrong.
    Field(String, String),
    /// Nothing was put under this name.
    NoTemplate(String),
    /// There is no such run.
    NoRun,
    /// This run of the instance goes on.
    Running(i64),
    /// The run's status does not allow it.
    Status(&'static str),
    /// A later run of the instance has gone on from it.
    Superseded(i64),
    /// The environment has no queues here.
    NoEnvironment(Env),
    /// The template could not be read now.
    Compute(ComputeError),
    /// The database failed.
    Store(store::Error),
}

impl From<store::Error> for ConfiguratorError {
    fn from(error: store::Error) -> Self {
        ConfiguratorError::Store(error)
    }
}

/// Reads a template where nobody else waits for that: a large one takes a while.
pub(crate) async fn parse_on_compute_pool(
    template: String,
) -> Result<(String, Arc<BlockGraph>), ConfiguratorError> {
    let read = compute::run_for_request(move || {
        template::parse_template(&template).map(|graph| (template, graph))
    });
    let read = read.await.map_err(ConfiguratorError::Compute)?;
    read.map(|(template, graph)| (template, Arc::new(graph))).map_err(ConfiguratorError::Template)
}

impl Configurator {
    async fn prepare_run(&self, given: RunRequest) -> Result<NewRun, ConfiguratorError> {
        check_template_name(&given.template_name)
            .map_err(|reason| ConfiguratorError::Field("template_name".to_owned(), reason))?;
        let template = match given.template {
            Some(template) => template,
            None => {
                let kept = template_store::get_template(&self.pool, &given.template_name).await?;
                kept.ok_or(ConfiguratorError::NoTemplate(given.template_name.clone()))?.template
            }
        };
        let (template, graph) = parse_on_compute_pool(template).await?;
        graph
            .resolve_inputs(&given.general_inputs, &given.env_inputs)
            .map_err(|(field, reason)| ConfiguratorError::Field(field, reason))?;
        Ok(NewRun {
            template_name: given.template_name,
            env: given.env,
            template,
            graph,
            general_inputs: given.general_inputs,
            env_inputs: given.env_inputs,
        })
    }

    /// Begins a run; its number.
    pub async fn begin_run(&self, given: RunRequest) -> Result<i64, ConfiguratorError> {
        self.begin_run_once(given, Uuid::new_v4()).await
    }

    /// Begins a run for a request: whoever asks again with the same one is told the same run, also when it has ended.
    pub async fn begin_run_once(
        &self,
        given: RunRequest,
        request: Uuid,
    ) -> Result<i64, ConfiguratorError> {
        if !self.senders.contains_key(&given.env) {
            return Err(ConfiguratorError::NoEnvironment(given.env));
        }
        let new = self.prepare_run(given).await?;
        match run::begin_run(&self.pool, new, request).await? {
            BeginRunOutcome::Begun(run_id) => {
                metrics::counter!("configurator_runs_begun_total").increment(1);
                Ok(run_id)
            }
            BeginRunOutcome::AlreadyRunning(run_id) => Err(ConfiguratorError::Running(run_id)),
        }
    }

    /// What a run would send, without sending anything.
    pub async fn forecast_run(
        &self,
        given: RunRequest,
    ) -> Result<Vec<BlockForecast>, ConfiguratorError> {
        let new = self.prepare_run(given).await?;
        let inputs = new
            .graph
            .resolve_inputs(&new.general_inputs, &new.env_inputs)
            .map_err(|(field, reason)| ConfiguratorError::Field(field, reason))?;
        let stored = run::find_stored_blocks(&self.pool, &new.template_name, new.env).await?;
        Ok(run::forecast_blocks(&new.graph, stored, &inputs))
    }

    /// A run with its blocks.
    pub async fn get_run(&self, run_id: i64) -> Result<RunView, ConfiguratorError> {
        run::load_run_view(&self.pool, run_id).await?.ok_or(ConfiguratorError::NoRun)
    }

    /// Waits for a run's end, at most so long.
    pub async fn wait_for_run(
        &self,
        run_id: i64,
        within: Duration,
    ) -> Result<RunView, ConfiguratorError> {
        run::wait_for_run(&self.pool, &self.notifications, run_id, within)
            .await?
            .ok_or(ConfiguratorError::NoRun)
    }

    /// Cancels a run.
    pub async fn cancel_run(&self, run_id: i64) -> Result<RunView, ConfiguratorError> {
        let env = self.get_run(run_id).await?.env.parse::<Env>();
        let sender =
            env.ok().and_then(|env| self.senders.get(&env).map(|sender| (env, sender.clone())));
        let Some((_, sender)) = sender else { return Err(ConfiguratorError::NoRun) };
        self.run_after_control(run_id, run::cancel_run(&self.pool, run_id, sender).await?).await
    }

    /// Lets a run go on that has failed or was cancelled.
    pub async fn resume_run(&self, run_id: i64) -> Result<RunView, ConfiguratorError> {
        self.run_after_control(run_id, run::resume_run(&self.pool, run_id).await?).await
    }

    async fn run_after_control(
        &self,
        run_id: i64,
        control: RunControlOutcome,
    ) -> Result<RunView, ConfiguratorError> {
        match control {
            RunControlOutcome::Done => self.get_run(run_id).await,
            RunControlOutcome::RunNotFound => Err(ConfiguratorError::NoRun),
            RunControlOutcome::StatusConflict(status) => {
                Err(ConfiguratorError::Status(status.name()))
            }
            RunControlOutcome::Superseded(later) => Err(ConfiguratorError::Superseded(later)),
        }
    }

    /// What the role does: drives runs, receives answers, forgets. It ends after `stop`.
    pub fn start(&self, grace: Duration, stop: &CancellationToken) -> JoinSet<()> {
        let mut running = JoinSet::new();
        let driver =
            RunDriver::new(self.pool.clone(), self.senders.clone(), self.settings.block_timeout);
        running.spawn(driver.run(self.notifications.clone(), stop.clone()));
        let environments = self.environments.clone();
        let served = self.engines.keys().copied().collect();
        running.spawn(environments.watch(
            served,
            self.pool.clone(),
            self.notifications.clone(),
            stop.clone(),
        ));
        for (env, engine) in &self.engines {
            running.spawn(self.clone().consume_answers(*env, engine.clone(), grace, stop.clone()));
        }
        running.spawn(self.clone().forget_old_runs(stop.clone()));
        running
    }

    /// Waits until there is an instance in the environment: before that no integration answers, and nothing is polled. It
    /// is known where the role has been [started](Self::start).
    pub async fn wait_until_env_used(&self, env: Env) {
        self.environments.wait_for(env).await;
    }

    async fn consume_answers(
        self,
        env: Env,
        engine: Arc<dyn FifoEngine>,
        grace: Duration,
        stop: CancellationToken,
    ) {
        let name = env.queue_name(&self.settings.answers);
        let queue = async {
            self.wait_until_env_used(env).await;
            wait_for_queue(engine.as_ref(), &name).await
        };
        let queue = tokio::select! {
            () = stop.cancelled() => return,
            queue = queue => queue,
        };
        let dead = env.dead_letter_queue_name(&self.settings.answers);
        let dead_letters: Arc<dyn FifoQueue> = Arc::new(OptionalDeadLetterQueue::new(engine, dead));
        let terms = FifoConsumerOptions {
            concurrency: ANSWER_CONCURRENCY,
            visibility_timeout: Duration::from_secs(30),
            shutdown_timeout: grace,
        };
        let answers = Arc::new(BlockAnswerWriter::start(self.pool.clone()));
        consume_messages(FifoQueuePair { queue, dead_letters }, answers, terms, stop).await;
    }

    async fn forget_old_runs(self, stop: CancellationToken) {
        let mut tick = interval(FORGET_RUNS_INTERVAL);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let forgotten = timeout(
                FORGET_RUNS_INTERVAL,
                run::forget_old_runs(&self.pool, self.settings.retention),
            )
            .await;
            if let Ok(Err(error)) = forgotten {
                tracing::warn!(%error, code = "UNAVAILABLE", "ended runs could not be forgotten");
            }
        }
    }
}
