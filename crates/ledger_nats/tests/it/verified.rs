//! Hazard: a shard's table is changed behind the service's back: `export verify` must find and name
//! the change, and report nothing on a sound system.

use super::changed::{assert_changed_row_is_named, export};
use super::nats_server::NatsServer;
use super::world::World;

#[test]
fn a_sound_system_is_proved_and_a_changed_row_is_named() {
    store::testing::run_test(async {
        let (world, server) = (World::fresh().await, NatsServer::start());
        let engine = server.engine();
        export(&world, &engine).await;
        assert_changed_row_is_named(&world, &engine).await;
    });
}
