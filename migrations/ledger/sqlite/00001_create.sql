-- +goose Up

-- A log. writer_epoch fences: only the holder of the latest epoch appends. size is the number of entries,
-- compared and set by every append. Both change; nothing is proved by them.
CREATE TABLE log (
    account      TEXT NOT NULL PRIMARY KEY,
    origin       TEXT NOT NULL,
    writer_epoch BIGINT NOT NULL,
    size         BIGINT NOT NULL
);

-- An entry. line is the evidence, the exact bytes. hashes are the nodes of the tree that the entry brought
-- into being, 32 bytes each: its leaf, then each subtree that it completed, from the smallest up. That is the
-- order of tlog.StoredHashIndex cut at the entries, so appending and proving read O(log n) rows and no table
-- of nodes is needed. A log cannot fork: an entry has one successor.
CREATE TABLE entry (
    account TEXT NOT NULL,
    seq     BIGINT NOT NULL,
    prev    BLOB NOT NULL,
    hashes  BLOB NOT NULL,
    line    BLOB NOT NULL,
    PRIMARY KEY (account, seq),
    UNIQUE (account, prev)
);

-- Which event became which entry: what makes appending an event twice impossible.
CREATE TABLE entry_id (
    account TEXT NOT NULL,
    id      TEXT NOT NULL,
    seq     BIGINT NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;

-- The last number of each source, so that a missing event is noticed before anything is built on the gap.
CREATE TABLE source_head (
    account   TEXT NOT NULL,
    source    TEXT NOT NULL,
    last_sseq BIGINT NOT NULL,
    PRIMARY KEY (account, source)
) WITHOUT ROWID;

-- Every checkpoint that was ever signed.
CREATE TABLE checkpoint (
    account TEXT NOT NULL,
    size    BIGINT NOT NULL,
    note    BLOB NOT NULL,
    PRIMARY KEY (account, size)
);

-- The verifier keys of the checkpoints. They are a convenience: a verifier pins keys that came another way.
CREATE TABLE log_key (
    account  TEXT NOT NULL,
    verifier TEXT NOT NULL,
    PRIMARY KEY (account, verifier)
);

-- What the signer signed last; it signs nothing that does not continue this.
CREATE TABLE signer_state (
    account TEXT NOT NULL PRIMARY KEY,
    size    BIGINT NOT NULL,
    root    BLOB NOT NULL,
    head    BLOB NOT NULL,
    note    BLOB NOT NULL
);

-- +goose StatementBegin
CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: entry refuses UPDATE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: entry refuses DELETE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER entry_id_no_update BEFORE UPDATE ON entry_id
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: entry_id refuses UPDATE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER entry_id_no_delete BEFORE DELETE ON entry_id
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: entry_id refuses DELETE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER checkpoint_no_update BEFORE UPDATE ON checkpoint
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: checkpoint refuses UPDATE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER checkpoint_no_delete BEFORE DELETE ON checkpoint
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: checkpoint refuses DELETE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER log_key_no_update BEFORE UPDATE ON log_key
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: log_key refuses UPDATE');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER log_key_no_delete BEFORE DELETE ON log_key
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: log_key refuses DELETE');
END;
-- +goose StatementEnd

-- INSERT OR REPLACE deletes the row in its way without asking the trigger for DELETE.

-- +goose StatementBegin
CREATE TRIGGER entry_no_replace BEFORE INSERT ON entry
WHEN EXISTS (SELECT 1 FROM entry WHERE account = NEW.account AND (seq = NEW.seq OR prev = NEW.prev))
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: entry has this row');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER entry_id_no_replace BEFORE INSERT ON entry_id
WHEN EXISTS (SELECT 1 FROM entry_id WHERE account = NEW.account AND id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: entry_id has this row');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER checkpoint_no_replace BEFORE INSERT ON checkpoint
WHEN EXISTS (SELECT 1 FROM checkpoint WHERE account = NEW.account AND size = NEW.size)
BEGIN
    SELECT RAISE(ABORT, 'the ledger only grows: checkpoint has this row');
END;
-- +goose StatementEnd
