//! Hazard: two concurrent runs apply a change twice, or half each.

use futures::future::join_all;

use super::world::{World, ended};

#[test]
fn of_overlapping_real_runs_one_does_it_and_the_others_find_it_done() {
    store::testing::run_test(async {
        let world = World::new().await;
        for round in 0..3 {
            let alone = world.run(&["--dry-run"]).await.planned();
            let commands: Vec<_> = (0..4).map(|_| world.command(&[])).collect();
            let ended = join_all(commands.into_iter().map(ended)).await;
            let mut sum = [0; 3];
            for ended in &ended {
                ended.planned().iter().zip(&mut sum).for_each(|(planned, sum)| *sum += planned);
            }
            assert_eq!(sum, alone, "each change was made once, by whomever");
            assert_eq!(world.run(&[]).await.planned(), [0, 0, 0]);
            world.change(round);
        }
        let versions: i64 = sqlx::query_scalar("SELECT count(*) FROM posting_rules")
            .fetch_one(&world.control)
            .await
            .unwrap();
        assert_eq!(versions, 3);
    });
}
