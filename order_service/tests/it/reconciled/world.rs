//! Test world: a control database, shards, a modifiable bundle and the command.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use futures::future::join_all;
use ledger::sharding::{LedgerShards, ShardMap};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use store::PgConnectOptions;
use store::testing::{control_database_options, create_shard_database, open_test_pool};
use tempfile::TempDir;

use crate::bundles::{copy, edit};

pub struct World {
    pub control: PgPool,
    pub shards: Vec<PgPool>,
    pub bundle: TempDir,
    options: PgConnectOptions,
    shard_map: tempfile::NamedTempFile,
}

/// Result of a command.
pub struct Ended {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    pub said: String,
    pub complaint: String,
}

impl World {
    pub async fn new() -> Self {
        let options = control_database_options().await;
        let control = open_test_pool(options.clone()).await;
        let shards = join_all((0..2).map(|_| create_shard_database())).await;
        let shard_map = tempfile::NamedTempFile::new().unwrap();
        let world = Self { control, shards, bundle: copy(), options, shard_map };
        let yaml = world.shard_map_for(world.options.get_username());
        std::fs::write(world.shard_map.path(), &yaml).unwrap();
        // The databases get their identity.
        LedgerShards::open(ShardMap::parse(&yaml).unwrap(), world.shards.clone(), false)
            .await
            .unwrap();
        world
    }

    fn shard_map_for(&self, user: &str) -> String {
        let ranges = [["00", "7f"], ["80", "ff"]];
        let shard = |(n, pool): (usize, &PgPool)| {
            let (url, [first, last]) = (url(&pool.connect_options(), user), ranges[n]);
            format!("  - {{name: s{n}, range: [\"{first}\", \"{last}\"], url: \"{url}\"}}\n")
        };
        format!("shards:\n{}", self.shards.iter().enumerate().map(shard).collect::<String>())
    }

    /// The command as this database user.
    pub fn command_as(&self, user: &str, args: &[&str]) -> Command {
        std::fs::write(self.shard_map.path(), self.shard_map_for(user)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_order_service"));
        command.arg("reconcile").args(args).arg("--bundle").arg(self.bundle.path());
        command
            .arg("--shards")
            .arg(self.shard_map.path())
            .arg("--database-url")
            .arg(url(&self.options, user));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_as(self.options.get_username(), args)
    }

    pub async fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args)).await
    }

    /// Changes the bundle so that every integration has work.
    pub fn change(&self, round: usize) {
        let folder = self.bundle.path();
        let put = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
        put(
            "ledger/changed.yaml",
            format!(
                "$schema: /ledger/state-type-1.yml\nname: changed\ndescription: \"{round}\"\nattributes: [{{name: k, type: int}}]\nshard_key: [k]\n"
            ),
        );
        let rule = std::fs::read_to_string(folder.join("postings/order_processed.yaml")).unwrap();
        let begin = rule.find("description:").unwrap();
        let end = begin + rule[begin..].find('\n').unwrap();
        put(
            "postings/order_processed.yaml",
            format!("{}description: \"{round}\"{}", &rule[..begin], &rule[end..]),
        );
        put(
            "tasks/changed.yaml",
            format!(
                "$schema: /tasks/task-1.yml\nname: changed\nschedule: \"0 0 1 1 *\"\ntask_type: ledger.partitions\nparams: {{ahead: {}}}\n",
                3 + round
            ),
        );
        put(
            "changed.yaml",
            format!(
                "$schema: /events/action-config-1.yml\nname: changed\nauthor: somebody\ndescription: \"{round}\"\non: [{{event: e}}]\naction: {{task: noop}}\n"
            ),
        );
        put(
            "queues/changed.yaml",
            format!(
                "$schema: /queues/queue-1.yml\nname: changed\nenvs: [dev]\nvisibility_seconds: {}\n",
                30 + round
            ),
        );
    }

    /// A fingerprint of the rows of every table.
    pub async fn contents(&self) -> Vec<(String, Option<String>)> {
        let mut contents = Vec::new();
        for (n, pool) in std::iter::once(&self.control).chain(&self.shards).enumerate() {
            let tables: Vec<(String, bool)> = sqlx::query_as(
                "SELECT c.oid::regclass::text, c.relkind = 'S' FROM pg_class c
                 WHERE c.relkind IN ('r', 'p', 'S') AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
            )
            .fetch_all(pool)
            .await
            .unwrap();
            for (table, sequence) in tables {
                let asked = match sequence {
                    true => format!("SELECT last_value || ' ' || is_called FROM {table}"),
                    false => {
                        format!(
                            "SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM {table} t"
                        )
                    }
                };
                let rows = sqlx::query_scalar(AssertSqlSafe(asked)).fetch_one(pool).await.unwrap();
                contents.push((format!("{n}.{table}"), rows));
            }
        }
        contents
    }

    /// A read-only database user.
    pub async fn reader(&self) -> String {
        let role = format!("reader_{}", self.options.get_database().unwrap());
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN")))
            .execute(&self.control)
            .await
            .unwrap();
        for pool in std::iter::once(&self.control).chain(&self.shards) {
            let grants = format!(
                "GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
            );
            sqlx::raw_sql(AssertSqlSafe(grants)).execute(pool).await.unwrap();
        }
        role
    }

    pub fn edit(&self, file: &str, from: &str, to: &str) {
        edit(&self.bundle, file, from, to);
    }
}

/// Connection URL for a child process. The test server's socket is in a directory that
/// this process has open.
fn url(options: &PgConnectOptions, user: &str) -> String {
    let folder = std::fs::read_link(options.get_socket().unwrap()).unwrap();
    let folder = folder.to_str().unwrap().replace('/', "%2F");
    format!("postgres:///{}?host={folder}&user={user}", options.get_database().unwrap())
}

pub async fn ended(mut command: Command) -> Ended {
    Ended::of(tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap())
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(
            output.status.code().is_some() || output.status.signal() == Some(9),
            "{:?}",
            output.status
        );
        Self {
            code: output.status.code(),
            said: text(output.stdout),
            complaint: text(output.stderr),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.said)
            .unwrap_or_else(|_| panic!("{} {}", self.said, self.complaint))
    }

    /// Asserts success; returns the numbers of creations, updates and deletions.
    pub fn planned(&self) -> [usize; 3] {
        assert_eq!(self.code, Some(0), "{} {}", self.said, self.complaint);
        let numbers =
            self.said.lines().last().unwrap().split(' ').filter_map(|word| word.parse().ok());
        numbers.collect::<Vec<_>>().try_into().unwrap()
    }
}
