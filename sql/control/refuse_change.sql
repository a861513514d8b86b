-- Trigger function that refuses the statement: 23001 (restrict_violation).
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'a row of % is never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

-- Orders refer to versions of the posting rules: a version is never changed or deleted.
CREATE OR REPLACE TRIGGER posting_rules_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON control.posting_rules
    FOR EACH STATEMENT EXECUTE FUNCTION control.refuse_change();

-- The audit trail: a row is never changed, and deleted by the retention only, whose transaction says so.
CREATE OR REPLACE TRIGGER audit_stays BEFORE UPDATE OR TRUNCATE ON control.audit
    FOR EACH STATEMENT EXECUTE FUNCTION control.refuse_change();
CREATE OR REPLACE TRIGGER audit_is_kept BEFORE DELETE ON control.audit
    FOR EACH STATEMENT WHEN (current_setting('order_service.forgets_audit', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION control.refuse_change();
