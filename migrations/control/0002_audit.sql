-- The audit trail: a row for each change of configuration and each act of an operator, written in its
-- transaction (crates/audit). Rows are never changed, and deleted by the retention only: the triggers
-- are in sql/control/refuse_change.sql.
CREATE TABLE audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- pages of the listing, newest first
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    origin text NOT NULL,
    action text NOT NULL,
    object text NOT NULL, -- kind/name
    difference jsonb NOT NULL
);

-- Listings by actor and by object (list_audit).
CREATE INDEX audit_by_actor ON audit (actor, audit_id);
CREATE INDEX audit_by_object ON audit (object, audit_id);
-- Listings of a period (list_audit), and the retention (forget_audit).
CREATE INDEX audit_by_time ON audit (at);
