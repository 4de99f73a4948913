-- +goose Up

-- A log's size and epoch, and what was signed last, change, but never back; neither row goes away. That the
-- entries are fewer than the log says, or the checkpoints, is how a log that was cut shows by itself.

-- +goose StatementBegin
CREATE FUNCTION ledger_log_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.account <> OLD.account OR NEW.origin <> OLD.origin OR NEW.size < OLD.size OR NEW.writer_epoch < OLD.writer_epoch THEN
        RAISE EXCEPTION 'the ledger only grows: log refuses UPDATE';
    END IF;
    RETURN NEW;
END;
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION ledger_signer_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.account <> OLD.account OR NEW.size < OLD.size THEN
        RAISE EXCEPTION 'the ledger only grows: signer_state refuses UPDATE';
    END IF;
    RETURN NEW;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER log_only_grows BEFORE UPDATE ON log FOR EACH ROW EXECUTE FUNCTION ledger_log_only_grows();
CREATE TRIGGER log_no_delete BEFORE DELETE ON log FOR EACH ROW EXECUTE FUNCTION ledger_only_grows();
CREATE TRIGGER log_no_truncate BEFORE TRUNCATE ON log FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
ALTER TABLE log ENABLE ALWAYS TRIGGER log_only_grows;
ALTER TABLE log ENABLE ALWAYS TRIGGER log_no_delete;
ALTER TABLE log ENABLE ALWAYS TRIGGER log_no_truncate;

CREATE TRIGGER signer_state_only_grows BEFORE UPDATE ON signer_state FOR EACH ROW EXECUTE FUNCTION ledger_signer_only_grows();
CREATE TRIGGER signer_state_no_delete BEFORE DELETE ON signer_state FOR EACH ROW EXECUTE FUNCTION ledger_only_grows();
CREATE TRIGGER signer_state_no_truncate BEFORE TRUNCATE ON signer_state FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
ALTER TABLE signer_state ENABLE ALWAYS TRIGGER signer_state_only_grows;
ALTER TABLE signer_state ENABLE ALWAYS TRIGGER signer_state_no_delete;
ALTER TABLE signer_state ENABLE ALWAYS TRIGGER signer_state_no_truncate;
