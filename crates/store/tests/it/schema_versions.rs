//! Hazard: a program meets a database of another version, during a rolling upgrade or after a forgotten migration; or one
//! whose history is not the program's.

use sqlx::PgConnection;
use store::testing::{control_database_options, empty_database_options, open_test_pool, run_test};
use store::{MigrationError, MigrationSet, PendingChange};

async fn change(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.unwrap();
}

async fn pending_functions(connection: &mut PgConnection) -> Vec<String> {
    let pending = MigrationSet::control().list_pending(connection).await.unwrap();
    let function = |change| match change {
        PendingChange::Function { name } => name,
        PendingChange::Migration { .. } => panic!("{change:?}"),
    };
    pending.into_iter().map(function).collect()
}

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
        assert!(matches!(&pending[0], PendingChange::Migration { version: 1, .. }), "{pending:?}");
        assert!(pending.contains(&PendingChange::Function { name: "accept_orders".to_owned() }));
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
        change(
            &mut connection,
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', true, '', 0)",
        )
        .await;
        MigrationSet::control().check_version(&mut connection).await.unwrap();
        change(&mut connection, "UPDATE schema_compatibility SET min_compatible = 9999").await;
        let refused = MigrationSet::control().check_version(&mut connection).await.unwrap_err();
        assert!(matches!(refused, MigrationError::TooNew { min_compatible: 9999, .. }));
        assert!(matches!(
            MigrationSet::control().apply_pending(&mut connection).await,
            Err(MigrationError::TooNew { .. })
        ));
    });
}

#[test]
fn a_database_with_another_history_is_refused_and_told_what_to_do() {
    run_test(async {
        let pool = open_test_pool(control_database_options().await).await;
        let mut connection = pool.acquire().await.unwrap();
        change(
            &mut connection,
            "UPDATE _sqlx_migrations SET checksum = 'edited' WHERE version = 1",
        )
        .await;
        let control = MigrationSet::control();
        for refused in [
            control.check_version(&mut connection).await.unwrap_err(),
            control.apply_pending(&mut connection).await.unwrap_err(),
            control.list_pending(&mut connection).await.unwrap_err(),
        ] {
            assert!(matches!(refused, MigrationError::Diverged { version: 1, .. }), "{refused:?}");
            let told = refused.to_string();
            assert!(told.contains("before 0.2.0") && told.contains("--data-dir"), "{told}");
        }
    });
}

#[test]
fn a_changed_function_is_installed_again_and_only_that_one() {
    run_test(async {
        let pool = open_test_pool(control_database_options().await).await;
        let mut connection = pool.acquire().await.unwrap();
        change(
            &mut connection,
            "CREATE OR REPLACE FUNCTION lease_held(lease bigint, held_epoch bigint) RETURNS boolean
             LANGUAGE sql AS 'SELECT false'",
        )
        .await;
        change(
            &mut connection,
            "UPDATE installed_functions SET sha256 = 'another' WHERE name = 'lease_held'",
        )
        .await;
        let control = MigrationSet::control();
        let refused = control.check_version(&mut connection).await.unwrap_err();
        assert!(refused.to_string().contains("(lease_held): run `migrate` first"), "{refused}");
        assert_eq!(pending_functions(&mut connection).await, ["lease_held"]);
        control.apply_pending(&mut connection).await.unwrap();
        assert_eq!(pending_functions(&mut connection).await, Vec::<String>::new());
        let body: String =
            sqlx::query_scalar("SELECT prosrc FROM pg_proc WHERE proname = 'lease_held'")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
        assert!(body.contains("FOR SHARE"), "{body}");
    });
}

#[test]
fn the_functions_of_a_newer_program_stay_when_an_older_one_migrates() {
    run_test(async {
        let pool = open_test_pool(control_database_options().await).await;
        let mut connection = pool.acquire().await.unwrap();
        change(
            &mut connection,
            "UPDATE installed_functions SET sha256 = 'newer', program_version = '99.0.0'
             WHERE name = 'accept_orders'",
        )
        .await;
        MigrationSet::control().check_version(&mut connection).await.unwrap();
        MigrationSet::control().apply_pending(&mut connection).await.unwrap();
        let kept: String = sqlx::query_scalar(
            "SELECT sha256 FROM installed_functions WHERE name = 'accept_orders'",
        )
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        assert_eq!(kept, "newer");
    });
}

#[test]
fn two_programs_that_migrate_at_the_same_time_both_succeed() {
    run_test(async {
        let pool = open_test_pool(empty_database_options().await).await;
        let migrate = async || {
            let mut connection = pool.acquire().await.unwrap();
            MigrationSet::control().apply_pending(&mut connection).await
        };
        let (first, second) = tokio::join!(migrate(), migrate());
        first.unwrap();
        second.unwrap();
    });
}

/// Hazard: a function that was dropped by hand is believed to be there.
#[test]
fn a_function_that_was_dropped_is_installed_again() {
    run_test(async {
        let pool = open_test_pool(control_database_options().await).await;
        let mut connection = pool.acquire().await.unwrap();
        change(&mut connection, "DROP FUNCTION store_callbacks").await;
        let control = MigrationSet::control();
        let refused = control.check_version(&mut connection).await.unwrap_err();
        assert!(
            refused.to_string().contains("(store_callbacks): run `migrate` first"),
            "{refused}"
        );
        control.apply_pending(&mut connection).await.unwrap();
        assert_eq!(pending_functions(&mut connection).await, Vec::<String>::new());
        change(&mut connection, "SELECT FROM store_callbacks('{}', '{}', '{}')").await;
    });
}

/// Applies the control migrations to an empty database while another program, which holds the
/// migration lock, runs `meanwhile` there and commits.
async fn apply_after(meanwhile: &'static str) -> Result<(), MigrationError> {
    let pool = open_test_pool(empty_database_options().await).await;
    let mut other = pool.begin().await.unwrap();
    change(
        &mut other,
        "SELECT pg_advisory_xact_lock(hashtextextended('migrate/' || current_schema(), 0))",
    )
    .await;
    let applying = pool.clone();
    let applying = tokio::spawn(async move {
        let mut connection = applying.acquire().await.unwrap();
        MigrationSet::control().apply_pending(&mut connection).await
    });
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND wait_event = 'advisory')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    sqlx::raw_sql(meanwhile).execute(&mut *other).await.unwrap();
    other.commit().await.unwrap();
    applying.await.unwrap()
}

/// Hazard: two programs of different versions start at the same time; the later one has read an
/// empty database, and migrates that of the other one.
#[test]
fn what_another_program_migrated_meanwhile_is_checked() {
    run_test(async {
        let diverged = apply_after(
            "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL,
                 installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL,
                 execution_time bigint NOT NULL);
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (1, 'baseline', true, 'another', 0)",
        );
        let diverged = diverged.await.unwrap_err();
        assert!(matches!(diverged, MigrationError::Diverged { version: 1, .. }), "{diverged}");
        let newer = apply_after(
            "CREATE TABLE schema_compatibility (min_compatible bigint NOT NULL);
             INSERT INTO schema_compatibility VALUES (9999)",
        );
        let newer = newer.await.unwrap_err();
        assert!(matches!(newer, MigrationError::TooNew { min_compatible: 9999, .. }), "{newer}");
    });
}

/// Functions find their tables wherever the schema is, whatever the session's search path.
#[test]
fn functions_do_not_depend_on_the_search_path() {
    run_test(async {
        let pool = open_test_pool(control_database_options().await).await;
        let mut connection = pool.acquire().await.unwrap();
        change(&mut connection, "SET search_path = pg_catalog").await;
        let of_sql: Vec<String> = sqlx::query_scalar(
            "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
             WHERE p.pronamespace = 'public'::regnamespace AND l.lanname = 'sql'",
        )
        .fetch_all(&mut *connection)
        .await
        .unwrap();
        assert!(of_sql.len() > 2);
        // Bodies in the language SQL are checked when they are created.
        for definition in of_sql {
            sqlx::raw_sql(sqlx::AssertSqlSafe(definition.clone()))
                .execute(&mut *connection)
                .await
                .unwrap_or_else(|error| panic!("{error}: {definition}"));
        }
        let held: bool = sqlx::query_scalar("SELECT public.lease_held(0, 0)")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert!(!held);
    });
}
