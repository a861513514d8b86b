//! C1: a graph of no-op blocks on the Postgres engine, with the integration in the same process.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use configurator::run::{RUNS_CHANNEL, RunStatus};
use configurator::sdk::{
    BlockRequest, Env, IntegrationError, IntegrationHandler, IntegrationHandlers,
    IntegrationOptions, IntegrationWorker,
};
use configurator::{Configurator, ConfiguratorSettings, RunRequest};
use queue::fifo::{FIFO_CHANNEL, FifoEngine, FifoTxSender, PgFifo};
use serde_json::{Map, Value};
use store::{MigrationSet, PgNotificationHub, PgPool};
use tokio_util::sync::CancellationToken;

use crate::figures::{Figure, FigureUnit, ratio_figure};
use crate::platform::BenchCluster;
use crate::suite::{BenchSession, RowOutcome};

const CONFIGURATOR_DATABASE: &str = "configurator";
const RUN_TIMEOUT: Duration = Duration::from_secs(300);
/// Blocks per chain; all chains depend on the first block.
const BLOCKS_PER_CHAIN: usize = 10;

struct NoopIntegration(Arc<AtomicUsize>);

impl IntegrationHandler for NoopIntegration {
    const TASK_TYPE: &'static str = "nothing";
    type Params = Map<String, Value>;
    type State = Map<String, Value>;

    async fn handle(&self, _: BlockRequest<Self::Params>) -> Result<Self::State, IntegrationError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Map::from_iter([("id".to_owned(), Value::from(1))]))
    }
}

fn render_template(blocks: usize) -> String {
    let mut text = "type: module\nname: global\nblocks:\n".to_owned();
    let chains = (blocks - 1).div_ceil(BLOCKS_PER_CHAIN);
    for n in 0..blocks {
        let before = if n == 0 { None } else { Some(n.saturating_sub(chains)) };
        let (inputs, args) = match before {
            Some(before) => (format!("b{before}.id"), format!("before: $b{before}.id")),
            None => (String::new(), String::new()),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  - {{name: b{n}, type: integration, integration: noop.nothing, inputs: [{inputs}], outputs: [id], args: {{{args}}}}}"
        );
    }
    text
}

/// Blocks per second of a run with `blocks` blocks, from start to end.
async fn measure_block_rate(pool: &PgPool, blocks: usize) -> anyhow::Result<f64> {
    let (notifications, _) =
        PgNotificationHub::start(pool.clone(), vec![FIFO_CHANNEL, RUNS_CHANNEL]);
    let engine = Arc::new(PgFifo::new(pool.clone(), notifications.clone()));
    for queue in ["configshop", "noop"] {
        configurator::queues::ensure_integration_queue(engine.as_ref(), queue, Env::Test).await?;
    }
    let configurator = Configurator {
        pool: pool.clone(),
        notifications,
        settings: ConfiguratorSettings {
            block_timeout: RUN_TIMEOUT,
            answers: "configshop".to_owned(),
            retention: Duration::from_secs(86_400),
        },
        engines: HashMap::from([(Env::Test, engine.clone() as Arc<dyn FifoEngine>)]),
        senders: HashMap::from([(Env::Test, engine.clone() as Arc<dyn FifoTxSender>)]),
        environments: Default::default(),
    };
    let (stop, handled) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let mut role = configurator.start(Duration::from_secs(1), &stop);
    let worker = IntegrationWorker::new(engine)
        .with_options(IntegrationOptions { concurrency: 200, ..IntegrationOptions::default() });
    let handlers = IntegrationHandlers::default().with_handler(NoopIntegration(handled.clone()));
    let integration = tokio::spawn(worker.run(handlers, "noop", Env::Test, stop.clone()));
    let request = RunRequest {
        template_name: format!("blocks-{blocks}"),
        template: Some(render_template(blocks)),
        env: Env::Test,
        general_inputs: Map::new(),
        env_inputs: Map::new(),
    };
    let begun = Instant::now();
    let run_id = configurator
        .begin_run(request)
        .await
        .map_err(|refused| anyhow::anyhow!("not begun: {refused:?}"))?;
    let run = configurator.wait_for_run(run_id, RUN_TIMEOUT).await;
    let took = begun.elapsed();
    let run = run.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    stop.cancel();
    while role.join_next().await.is_some() {}
    let _ = integration.await;
    anyhow::ensure!(run.status == RunStatus::Succeeded, "the run is {}", run.status.name());
    let handled = handled.load(Ordering::Relaxed);
    anyhow::ensure!(handled == blocks, "{blocks} blocks, {handled} were carried out");
    Ok(blocks as f64 / took.as_secs_f64())
}

/// Row C1: blocks per second, compared with a quarter of the graph.
pub async fn measure_block_graph(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let blocks = session.effort.pick_size(10_000, 2000);
    let (mut whole, mut quarter) = (Vec::new(), Vec::new());
    for run in 1..=session.effort.window_count {
        session.progress.show_step(&format!("{blocks} blocks, run {run}"));
        for (blocks, rates) in [(blocks / 4, &mut quarter), (blocks, &mut whole)] {
            let cluster = BenchCluster::start(session)?;
            cluster.create_database(CONFIGURATOR_DATABASE, Some(MigrationSet::control())).await?;
            let pool = cluster.open_pool(CONFIGURATOR_DATABASE, 16).await?;
            rates.push(measure_block_rate(&pool, blocks).await?);
            pool.close().await;
        }
    }
    let (whole, quarter) = (
        Figure::from_values("blocks", FigureUnit::PerSecond, &whole),
        Figure::from_values("blocks of a quarter of the graph", FigureUnit::PerSecond, &quarter),
    );
    let linear = ratio_figure("a quarter of the graph", whole.median, quarter.median);
    let mut outcome = RowOutcome::from_figures(vec![whole, linear, quarter]);
    outcome.no_verdict = session.effort.is_quick;
    Ok(outcome
        .with_verification(format!("each of {blocks} blocks was carried out once"))
        .with_note(
            "a fan of chains of ten; driver, queues' clients and integration in one process",
        ))
}
