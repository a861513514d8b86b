//! The configurator of a process: what its routes and commands ask for, and what its role does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use queue::fifo::{ConsumerTerms, FifoEngine, FifoQueue, Queues, SendInTx, consume};
use serde_json::{Map, Value as Json};
use serving::compute::{self, ComputeError};
use sqlx::PgPool;
use store::Notifications;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::answers::Answers;
use crate::environments::EnvironmentsInUse;
use crate::queues::{OptionalQueue, opened};
use crate::run::{self, Begun, Control, Driver, Forecast, NewRun, RunView};
use crate::template::{self, Env, Fault, Graph, check_template_name};
use crate::templates;

/// Answers in work at a time, for each environment.
const CONCURRENCY: usize = 200;
/// How often ended runs are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// What the settings say.
#[derive(Debug, Clone)]
pub struct Settings {
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
    /// Must listen on [`run::RUNS_CHANNEL`].
    pub notifications: Notifications,
    /// What the settings say.
    pub settings: Settings,
    /// Where queues are, by environment.
    pub engines: HashMap<Env, Arc<dyn FifoEngine>>,
    /// Sends to them within transactions.
    pub senders: HashMap<Env, Arc<dyn SendInTx>>,
    /// Those that have instances.
    pub environments: EnvironmentsInUse,
}

/// What a run is asked for with.
#[derive(Debug, Clone)]
pub struct Given {
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
pub enum Refused {
    /// The template is wrong.
    Template(Vec<Fault>),
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

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        Refused::Store(error)
    }
}

/// Reads a template where nobody else waits for that: a large one takes a while.
pub(crate) async fn read(template: String) -> Result<(String, Arc<Graph>), Refused> {
    let read = compute::run(move || template::parse(&template).map(|graph| (template, graph)));
    let read = read.await.map_err(Refused::Compute)?;
    read.map(|(template, graph)| (template, Arc::new(graph))).map_err(Refused::Template)
}

impl Configurator {
    async fn new_run(&self, given: Given) -> Result<NewRun, Refused> {
        check_template_name(&given.template_name)
            .map_err(|reason| Refused::Field("template_name".to_owned(), reason))?;
        let template = match given.template {
            Some(template) => template,
            None => {
                let kept = templates::get(&self.pool, &given.template_name).await?;
                kept.ok_or(Refused::NoTemplate(given.template_name.clone()))?.template
            }
        };
        let (template, graph) = read(template).await?;
        graph
            .inputs(&given.general_inputs, &given.env_inputs)
            .map_err(|(field, reason)| Refused::Field(field, reason))?;
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
    pub async fn begin(&self, given: Given) -> Result<i64, Refused> {
        self.begin_once(given, Uuid::new_v4()).await
    }

    /// Begins a run for a request: whoever asks again with the same one is told the same run, also when it has ended.
    pub async fn begin_once(&self, given: Given, request: Uuid) -> Result<i64, Refused> {
        if !self.senders.contains_key(&given.env) {
            return Err(Refused::NoEnvironment(given.env));
        }
        let new = self.new_run(given).await?;
        match run::begin(&self.pool, new, request).await? {
            Begun::Run(run_id) => {
                metrics::counter!("configurator_runs_begun_total").increment(1);
                Ok(run_id)
            }
            Begun::Running(run_id) => Err(Refused::Running(run_id)),
        }
    }

    /// What a run would send, without sending anything.
    pub async fn forecast(&self, given: Given) -> Result<Vec<Forecast>, Refused> {
        let new = self.new_run(given).await?;
        let inputs = new
            .graph
            .inputs(&new.general_inputs, &new.env_inputs)
            .map_err(|(field, reason)| Refused::Field(field, reason))?;
        let stored = run::stored_of(&self.pool, &new.template_name, new.env).await?;
        Ok(run::forecast(&new.graph, stored, &inputs))
    }

    /// A run with its blocks.
    pub async fn show(&self, run_id: i64) -> Result<RunView, Refused> {
        run::show(&self.pool, run_id).await?.ok_or(Refused::NoRun)
    }

    /// Waits for a run's end, at most so long.
    pub async fn wait(&self, run_id: i64, within: Duration) -> Result<RunView, Refused> {
        run::wait(&self.pool, &self.notifications, run_id, within).await?.ok_or(Refused::NoRun)
    }

    /// Cancels a run.
    pub async fn cancel(&self, run_id: i64) -> Result<RunView, Refused> {
        let env = self.show(run_id).await?.env.parse::<Env>();
        let sender = env.ok().and_then(|env| self.senders.get(&env).map(|sender| (env, sender.clone())));
        let Some((_, sender)) = sender else { return Err(Refused::NoRun) };
        self.controlled(run_id, run::cancel(&self.pool, run_id, sender).await?).await
    }

    /// Lets a run go on that has failed or was cancelled.
    pub async fn resume(&self, run_id: i64) -> Result<RunView, Refused> {
        self.controlled(run_id, run::resume(&self.pool, run_id).await?).await
    }

    async fn controlled(&self, run_id: i64, control: Control) -> Result<RunView, Refused> {
        match control {
            Control::Done => self.show(run_id).await,
            Control::NoRun => Err(Refused::NoRun),
            Control::Status(status) => Err(Refused::Status(status.name())),
            Control::Superseded(later) => Err(Refused::Superseded(later)),
        }
    }

    /// What the role does: drives runs, receives answers, forgets. It ends after `stop`.
    pub fn start(&self, grace: Duration, stop: &CancellationToken) -> JoinSet<()> {
        let mut running = JoinSet::new();
        let driver = Driver::new(self.pool.clone(), self.senders.clone(), self.settings.block_timeout);
        running.spawn(driver.run(self.notifications.clone(), stop.clone()));
        let environments = self.environments.clone();
        running.spawn(environments.watch(self.pool.clone(), self.notifications.clone(), stop.clone()));
        for (env, engine) in &self.engines {
            running.spawn(self.clone().receive(*env, engine.clone(), grace, stop.clone()));
        }
        running.spawn(self.clone().forget(stop.clone()));
        running
    }

    /// Waits until there is an instance in the environment: before that no integration answers, and nothing is polled. It
    /// is known where the role has been [started](Self::start).
    pub async fn in_use(&self, env: Env) {
        self.environments.wait_for(env).await;
    }

    async fn receive(self, env: Env, engine: Arc<dyn FifoEngine>, grace: Duration, stop: CancellationToken) {
        let name = env.queue(&self.settings.answers);
        let queue = async {
            self.in_use(env).await;
            opened(engine.as_ref(), &name).await
        };
        let queue = tokio::select! {
            () = stop.cancelled() => return,
            queue = queue => queue,
        };
        let dead = env.dead_letters(&self.settings.answers);
        let dead_letters: Arc<dyn FifoQueue> = Arc::new(OptionalQueue::new(engine, dead));
        let terms = ConsumerTerms { concurrency: CONCURRENCY, visibility: Duration::from_secs(30), grace };
        let answers = Arc::new(Answers::start(self.pool.clone()));
        consume(Queues { queue, dead_letters }, answers, terms, stop).await;
    }

    async fn forget(self, stop: CancellationToken) {
        let mut tick = interval(FORGET_EVERY);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let forgotten = timeout(FORGET_EVERY, run::forget(&self.pool, self.settings.retention)).await;
            if let Ok(Err(error)) = forgotten {
                tracing::warn!(%error, code = "UNAVAILABLE", "ended runs could not be forgotten");
            }
        }
    }
}
