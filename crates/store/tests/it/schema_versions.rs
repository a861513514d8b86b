//! Hazard: a program meets a database of another schema version, during a rolling upgrade or
//! after a forgotten migration.

use store::testing::{control_database_options, empty_database_options, open_test_pool, run_test};
use store::{MigrationError, MigrationSet};

#[test]
fn an_older_schema_is_refused_with_the_command_that_helps() {
    run_test(async {
        let pool = open_test_pool(empty_database_options().await).await;
        let mut connection = pool.acquire().await.unwrap();
        let control = MigrationSet::control();
        let error = control.check_version(&mut connection).await.unwrap_err();
        assert!(matches!(error, MigrationError::TooOld { found: 0, .. }));
        assert!(error.to_string().contains("migrate"), "{error}");
        let pending = control.list_pending(&mut connection).await.unwrap();
        assert!(!pending.is_empty());
        control.apply_pending(&mut connection).await.unwrap();
        control.apply_pending(&mut connection).await.unwrap();
        control.check_version(&mut connection).await.unwrap();
        assert!(control.list_pending(&mut connection).await.unwrap().is_empty());
    });
}

#[test]
fn a_newer_schema_is_accepted_unless_it_says_otherwise() {
    run_test(async {
        let pool = open_test_pool(control_database_options().await).await;
        let mut connection = pool.acquire().await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', true, '', 0)",
        )
        .execute(&mut *connection)
        .await
        .unwrap();
        MigrationSet::control().check_version(&mut connection).await.unwrap();
        sqlx::query("UPDATE schema_compatibility SET min_compatible = 9999")
            .execute(&mut *connection)
            .await
            .unwrap();
        let refused = MigrationSet::control().check_version(&mut connection).await.unwrap_err();
        assert!(matches!(refused, MigrationError::TooNew { min_compatible: 9999, .. }));
        assert!(matches!(
            MigrationSet::control().apply_pending(&mut connection).await,
            Err(MigrationError::TooNew { .. })
        ));
    });
}
