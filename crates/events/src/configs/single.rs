//! Writes of one config, for callers that manage configs one by one.

use std::slice::from_ref;

use audit::AuditActor;
use reconcile::ObjectOwner;
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::ActionConfig;
use super::stored::{
    ActionConfigFilter, delete_configs_in_tx, lock_configs_in_tx, next_version_in_tx,
    put_configs_in_tx, read_configs, record_config_change_in_tx,
};

/// Sets the config `name` to `new` (`None`: deleted) for `owner`. Changes nothing and returns the
/// present owner if the config belongs to neither `owner` nor the built-in bundle. One transaction,
/// idempotent: writes nothing if the stored config equals `new`.
pub async fn set_config(
    pool: &PgPool,
    name: String,
    new: Option<ActionConfig>,
    owner: ObjectOwner,
    actor: &AuditActor,
) -> Result<Option<ObjectOwner>> {
    store::transaction("set_action_config", (name, new, owner, actor.clone()))
        .run(pool, |connection, (name, new, owner, actor)| {
            Box::pin(set_config_in_tx(connection, name, new.as_ref(), *owner, actor))
        })
        .await
}

async fn set_config_in_tx(
    connection: &mut PgConnection,
    name: &String,
    new: Option<&ActionConfig>,
    owner: ObjectOwner,
    actor: &AuditActor,
) -> Result<Option<ObjectOwner>> {
    lock_configs_in_tx(connection).await?;
    let old = read_configs(connection, ActionConfigFilter::of_name(name)).await?.pop();
    match (&old, new) {
        (None, None) => return Ok(None),
        (Some(old), Some(new)) if old.config == *new && old.owner == owner => return Ok(None),
        (Some(old), _) if old.owner != owner && old.owner != ObjectOwner::Builtin => {
            return Ok(Some(old.owner));
        }
        _ => {}
    }
    let version = next_version_in_tx(connection).await?;
    match new {
        Some(new) => put_configs_in_tx(connection, from_ref(new), owner, version).await?,
        None => delete_configs_in_tx(connection, from_ref(name), version).await?,
    }
    let old = old.as_ref().map(|old| (&old.config, old.owner));
    let new = new.map(|new| (new, owner));
    record_config_change_in_tx(connection, actor, name, (old, new)).await?;
    Ok(None)
}
