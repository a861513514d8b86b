-- Trigger function that refuses the statement: 23001 (restrict_violation).
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'a row of % is never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

-- Orders refer to versions of the posting rules: a version is never changed or deleted.
CREATE OR REPLACE TRIGGER posting_rules_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON control.posting_rules
    FOR EACH STATEMENT EXECUTE FUNCTION control.refuse_change();
