//! The configurator of a process: the operations for routes and commands, and the background
//! tasks of its role.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use audit::AuditActor;
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
use crate::ids::RunId;
use crate::queues::{OptionalDeadLetterQueue, wait_for_queue};
use crate::run::{
    self, BeginRunOutcome, BlockForecast, NewRun, RunControlOutcome, RunDriver, RunView,
};
use crate::template::{self, BlockGraph, BlockTemplateFault, Env, check_template_name};
use crate::template_store;

/// Maximum answers in progress per environment.
const ANSWER_CONCURRENCY: usize = 200;
/// Interval between deletions of old runs.
const FORGET_RUNS_INTERVAL: Duration = Duration::from_secs(600);

/// The settings of the configurator.
#[derive(Debug, Clone)]
pub struct ConfiguratorSettings {
    /// Timeout of blocks that set none.
    pub block_timeout: Duration,
    /// The answer queue, without environment and suffix.
    pub answers: String,
    /// How long ended runs are kept.
    pub retention: Duration,
}

/// The configurator of a process; clones share the state.
#[derive(Clone)]
pub struct Configurator {
    /// Pool of connections to the control database.
    pub pool: PgPool,
    /// Must listen on [`RUNS_CHANNEL`](crate::run::RUNS_CHANNEL).
    pub notifications: PgNotificationHub,
    /// The settings of the configurator.
    pub settings: ConfiguratorSettings,
    /// Queue engines by environment.
    pub engines: HashMap<Env, Arc<dyn FifoEngine>>,
    /// Transactional senders by environment.
    pub senders: HashMap<Env, Arc<dyn FifoTxSender>>,
    /// The environments that have instances.
    pub environments: EnvironmentsInUse,
}

/// A request to begin or forecast a run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Template name of the instance.
    pub template_name: String,
    /// Text of the template; `None` for the one stored under the name.
    pub template: Option<String>,
    /// Environment of the instance.
    pub env: Env,
    /// Inputs of scope `general`.
    pub general_inputs: Map<String, Json>,
    /// Inputs of scope `env`.
    pub env_inputs: Map<String, Json>,
}

/// Why a request was refused or failed.
#[derive(Debug, Clone)]
pub enum ConfiguratorError {
    /// The template has these faults.
    Template(Vec<BlockTemplateFault>),
    /// An invalid field and the reason.
    Field(String, String),
    /// No template is stored under this name.
    NoTemplate(String),
    /// The run does not exist.
    NoRun,
    /// This run of the instance is still running.
    Running(RunId),
    /// The run's status, which does not allow the operation.
    Status(&'static str),
    /// This later run of the instance has superseded it.
    Superseded(RunId),
    /// No queues are configured for the environment.
    NoEnvironment(Env),
    /// The compute pool is overloaded, too slow, or panicked.
    Compute(ComputeError),
    /// A database error.
    Store(store::Error),
}

impl From<store::Error> for ConfiguratorError {
    fn from(error: store::Error) -> Self {
        ConfiguratorError::Store(error)
    }
}

/// Parses a template on the compute pool, as a large one would block other tasks.
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

    /// Begins a run, and returns its id.
    pub async fn begin_run(&self, given: RunRequest) -> Result<RunId, ConfiguratorError> {
        self.begin_run_once(given, Uuid::new_v4()).await
    }

    /// Like [`Self::begin_run`], as the act of an operator: it is in the audit trail.
    pub async fn begin_run_for(
        &self,
        given: RunRequest,
        actor: AuditActor,
    ) -> Result<RunId, ConfiguratorError> {
        self.begin_checked_run(given, Uuid::new_v4(), Some(actor)).await
    }

    /// Begins a run. Idempotent by `request`: a repeated request gets the id of the same run, even
    /// when that has ended.
    pub async fn begin_run_once(
        &self,
        given: RunRequest,
        request: Uuid,
    ) -> Result<RunId, ConfiguratorError> {
        self.begin_checked_run(given, request, None).await
    }

    async fn begin_checked_run(
        &self,
        given: RunRequest,
        request: Uuid,
        actor: Option<AuditActor>,
    ) -> Result<RunId, ConfiguratorError> {
        if !self.senders.contains_key(&given.env) {
            return Err(ConfiguratorError::NoEnvironment(given.env));
        }
        let new = self.prepare_run(given).await?;
        match run::begin_run(&self.pool, new, request, actor).await? {
            BeginRunOutcome::Begun(run_id) => {
                metrics::counter!("configurator_runs_begun_total").increment(1);
                Ok(run_id)
            }
            BeginRunOutcome::AlreadyRunning(run_id) => Err(ConfiguratorError::Running(run_id)),
        }
    }

    /// The forecast of a run. Sends and writes nothing.
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

    /// A run with its steps.
    pub async fn get_run(&self, run_id: RunId) -> Result<RunView, ConfiguratorError> {
        run::load_run_view(&self.pool, run_id).await?.ok_or(ConfiguratorError::NoRun)
    }

    /// Waits at most `within` for the end of a run.
    pub async fn wait_for_run(
        &self,
        run_id: RunId,
        within: Duration,
    ) -> Result<RunView, ConfiguratorError> {
        run::wait_for_run(&self.pool, &self.notifications, run_id, within)
            .await?
            .ok_or(ConfiguratorError::NoRun)
    }

    /// Cancels a run, see [`run::cancel_run`].
    pub async fn cancel_run(
        &self,
        run_id: RunId,
        actor: &AuditActor,
    ) -> Result<RunView, ConfiguratorError> {
        let env = self.get_run(run_id).await?.env.parse::<Env>();
        let sender =
            env.ok().and_then(|env| self.senders.get(&env).map(|sender| (env, sender.clone())));
        let Some((_, sender)) = sender else { return Err(ConfiguratorError::NoRun) };
        let control = run::cancel_run(&self.pool, run_id, sender, actor).await?;
        self.run_after_control(run_id, control).await
    }

    /// Resumes a failed or cancelled run, see [`run::resume_run`].
    pub async fn resume_run(
        &self,
        run_id: RunId,
        actor: &AuditActor,
    ) -> Result<RunView, ConfiguratorError> {
        self.run_after_control(run_id, run::resume_run(&self.pool, run_id, actor).await?).await
    }

    async fn run_after_control(
        &self,
        run_id: RunId,
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

    /// Starts the background tasks of the role: driving runs, receiving answers, deleting old runs.
    /// They end after `stop`.
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

    /// Waits for the first instance in the environment: before it no integration answers, and
    /// nothing is polled. Waits for ever if the role was not [started](Self::start).
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
        let options = FifoConsumerOptions {
            concurrency: ANSWER_CONCURRENCY,
            visibility_timeout: Duration::from_secs(30),
            shutdown_timeout: grace,
        };
        let answers = Arc::new(BlockAnswerWriter::start(self.pool.clone()));
        consume_messages(FifoQueuePair { queue, dead_letters }, answers, options, stop).await;
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
