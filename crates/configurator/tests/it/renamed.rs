//! Hazard: a renamed block about the same object: its integration creates the existing object,
//! and then deletes it.

use configurator::ConfiguratorError;
use configurator::run::RunStatus;
use store::testing::run_test;

use super::harness::{ConfiguratorHarness, HandlerCall, run_request};

/// A template of blocks, each `(name, args, more)`.
fn blocks(blocks: &[(&str, &str, &str)]) -> String {
    let mut text = "type: module\nname: global\nblocks:\n".to_owned();
    for (name, args, more) in blocks {
        text += &format!(
            "  - {{name: {name}, type: integration, integration: q.do, outputs: [id, value], args: {{{args}}}, {more}}}\n"
        );
    }
    text
}

struct RenameHarness {
    world: ConfiguratorHarness,
    _role: (tokio::task::JoinSet<()>, tokio_util::sync::CancellationToken),
    _integration: tokio::task::JoinHandle<()>,
}

impl RenameHarness {
    async fn start() -> Self {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _integration) = (world.start(), world.spawn_integration());
        Self { world, _role, _integration }
    }

    /// The calls of a run that succeeded, in order.
    async fn came(&self, template: &str) -> Vec<String> {
        self.calls(template)
            .await
            .iter()
            .map(|call| format!("{} {}", call.action.name(), call.name))
            .collect()
    }

    async fn calls(&self, template: &str) -> Vec<HandlerCall> {
        let run = self.world.run("t", template).await;
        assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
        std::mem::take(&mut *self.world.calls.lock().unwrap())
    }
}

#[test]
fn of_a_renamed_block_the_old_one_is_deleted_before_the_new_one_is_created() {
    run_test(async {
        let stage = RenameHarness::start().await;
        stage.came(&blocks(&[("a", "name: key", "")])).await;
        let came = stage.came(&blocks(&[("b", "name: key", "")])).await;
        assert_eq!(came, ["delete key", "create key"]);
        // Also if a param has changed together with the name.
        let came = stage.came(&blocks(&[("c", "name: key, value: 2", "")])).await;
        assert_eq!(came, ["delete key", "create key"]);
    });
}

#[test]
fn what_uses_a_renamed_block_is_updated_afterwards() {
    run_test(async {
        let stage = RenameHarness::start().await;
        let user =
            |of: &str| (format!("name: user, value: ${of}.id"), format!("inputs: [{of}.id]"));
        let (args, inputs) = user("a");
        stage.came(&blocks(&[("a", "name: key", ""), ("u", &args, &inputs)])).await;
        let (args, inputs) = user("b");
        let came = stage.came(&blocks(&[("b", "name: key", ""), ("u", &args, &inputs)])).await;
        assert_eq!(came, ["delete key", "create key", "update user"]);
        // Both blocks are renamed.
        let (args, inputs) = user("c");
        let came = stage.came(&blocks(&[("c", "name: key", ""), ("v", &args, &inputs)])).await;
        assert_eq!(came, ["delete user", "delete key", "create key", "create user"]);
    });
}

#[test]
fn of_two_blocks_about_the_same_thing_the_one_that_stays_makes_it_anew() {
    run_test(async {
        let stage = RenameHarness::start().await;
        let both = [("a", "name: key", "cache: true"), ("b", "name: key", "cache: true")];
        stage.came(&blocks(&both)).await;
        let came = stage.came(&blocks(&both[..1])).await;
        assert_eq!(came, ["delete key", "update key"], "not served from the cache, either");
    });
}

#[test]
fn a_block_that_says_what_it_was_called_is_updated() {
    run_test(async {
        let stage = RenameHarness::start().await;
        let user = "name: user, value: $a.id";
        stage.came(&blocks(&[("a", "name: key", ""), ("u", user, "inputs: [a.id]")])).await;
        let renamed = blocks(&[
            ("b", "name: key, value: 2", "renamed_from: a"),
            ("u", &user.replace("$a", "$b"), "inputs: [b.id]"),
        ]);
        let forecast =
            stage.world.configurator.forecast_run(run_request("t", &renamed)).await.unwrap();
        assert!(
            forecast.iter().all(|block| block.action.unwrap().name() == "update"),
            "{forecast:?}"
        );
        let calls = stage.calls(&renamed).await;
        let first = &calls[0];
        assert_eq!(
            (first.action.name(), first.name.as_str(), &first.state["id"]),
            ("update", "key", &"id of key".into())
        );
        assert_eq!(calls.len(), 2, "nothing is deleted: {calls:?}");
        // `renamed_from` may stay; and another block may take the former name later.
        assert_eq!(stage.came(&renamed).await, ["update key", "update user"]);
        let came = stage.came(&blocks(&[("u", "name: user", "")])).await;
        assert!(came.contains(&"delete key".to_owned()), "{came:?}");
    });
}

#[test]
fn a_module_may_say_what_it_was_called_and_a_block_where_it_was() {
    run_test(async {
        let stage = RenameHarness::start().await;
        let module = |name: &str, more: &str, block: &str| {
            format!(
                "type: module\nname: global\nblocks:\n  - {{name: {name}, type: module, {more}, blocks: [\n      \
                 {{name: {block}, type: integration, integration: q.do, args: {{name: key}}}}]}}\n"
            )
        };
        stage.came(&module("m", "description: x", "a")).await;
        assert_eq!(stage.came(&module("n", "renamed_from: m", "a")).await, ["update key"]);
        let out = blocks(&[("a", "name: key", "renamed_from: n.a")]);
        assert_eq!(stage.came(&out).await, ["update key"]);
        let back = module("o", "renamed_from: [n, m]", "b")
            .replace("name: b,", "name: b, renamed_from: [c, global.a],");
        assert_eq!(stage.came(&back).await, ["update key"]);
    });
}

#[test]
fn an_answer_to_a_message_under_the_former_name_brings_nothing_back() {
    run_test(async {
        let stage = RenameHarness::start().await;
        let created = stage.calls(&blocks(&[("a", "name: key", "")])).await[0].block_id;
        let renamed = blocks(&[("b", "name: key", "renamed_from: a")]);
        stage.came(&renamed).await;
        let again = "INSERT INTO configurator_answers (block_id, instance_id, state) SELECT $1, instance_id, '{}' FROM configurator_instances";
        let pool = &stage.world.configurator.pool;
        sqlx::query(again).bind(created).execute(pool).await.unwrap();
        assert_eq!(stage.came(&renamed).await, ["update key"]);
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM configurator_stored")
            .fetch_all(pool)
            .await
            .unwrap();
        assert_eq!(names, ["b"]);
    });
}

#[test]
fn what_a_block_cannot_have_been_called_is_refused() {
    run_test(async {
        let stage = RenameHarness::start().await;
        for (more, reason) in [
            ("renamed_from: a", "there is still a block"),
            ("renamed_from: 5", "is the name that the block had"),
            ("renamed_from: a b", "is the name that the block had"),
            ("renamed_from: [x, x]", "says the same"),
        ] {
            let template = blocks(&[("a", "name: key", ""), ("b", "name: other", more)]);
            match stage.world.begin_run("t", &template).await {
                Err(ConfiguratorError::Template(faults)) => {
                    assert_eq!((faults[0].block.as_str(), faults[0].line), ("b", 5), "{more}");
                    assert!(faults[0].reason.contains(reason), "{more}: {}", faults[0].reason);
                }
                other => panic!("{more}: {other:?}"),
            }
        }
    });
}
