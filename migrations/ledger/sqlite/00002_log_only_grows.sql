-- +goose Up

-- A log's size and epoch, and what was signed last, change, but never back; neither row goes away. That the
-- entries are fewer than the log says, or the checkpoints, is how a log that was cut shows by itself.

-- +goose StatementBegin
CREATE TRIGGER log_no_delete BEFORE DELETE ON log
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: log refuses DELETE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER log_only_grows BEFORE UPDATE ON log
WHEN NEW.account <> OLD.account OR NEW.origin <> OLD.origin OR NEW.size < OLD.size OR NEW.writer_epoch < OLD.writer_epoch
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: log refuses UPDATE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER signer_state_no_delete BEFORE DELETE ON signer_state
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: signer_state refuses DELETE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER signer_state_only_grows BEFORE UPDATE ON signer_state
WHEN NEW.account <> OLD.account OR NEW.size < OLD.size
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: signer_state refuses UPDATE');
END;
-- +goose StatementEnd

-- INSERT OR REPLACE deletes the row in its way without asking the trigger for DELETE. IGNORE, not ABORT: an
-- INSERT … ON CONFLICT DO NOTHING comes by here too, and may.

-- +goose StatementBegin
CREATE TRIGGER log_no_replace BEFORE INSERT ON log
WHEN EXISTS (SELECT 1 FROM log WHERE account = NEW.account)
BEGIN
    SELECT RAISE(IGNORE);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER signer_state_no_replace BEFORE INSERT ON signer_state
WHEN EXISTS (SELECT 1 FROM signer_state WHERE account = NEW.account)
BEGIN
    SELECT RAISE(IGNORE);
END;
-- +goose StatementEnd
