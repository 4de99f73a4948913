-- +goose Up

-- A log. writer_epoch fences: only the holder of the latest epoch appends. size is the number of entries,
-- compared and set by every append. Both change; nothing is proved by them.
CREATE TABLE log (
    account      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    origin       TEXT NOT NULL,
    writer_epoch BIGINT NOT NULL,
    size         BIGINT NOT NULL
);

-- An entry. line is the evidence, the exact bytes. hashes are the nodes of the tree that the entry brought
-- into being, 32 bytes each: its leaf, then each subtree that it completed, from the smallest up. That is the
-- order of tlog.StoredHashIndex cut at the entries, so appending and proving read O(log n) rows and no table
-- of nodes is needed. A log cannot fork: an entry has one successor.
CREATE TABLE entry (
    account TEXT COLLATE "C" NOT NULL,
    seq     BIGINT NOT NULL,
    prev    BYTEA NOT NULL,
    hashes  BYTEA NOT NULL,
    line    BYTEA NOT NULL,
    PRIMARY KEY (account, seq),
    UNIQUE (account, prev)
);

-- Which event became which entry: what makes appending an event twice impossible.
CREATE TABLE entry_id (
    account TEXT COLLATE "C" NOT NULL,
    id      TEXT COLLATE "C" NOT NULL,
    seq     BIGINT NOT NULL,
    PRIMARY KEY (account, id)
);

-- The last number of each source, so that a missing event is noticed before anything is built on the gap.
CREATE TABLE source_head (
    account   TEXT COLLATE "C" NOT NULL,
    source    TEXT COLLATE "C" NOT NULL,
    last_sseq BIGINT NOT NULL,
    PRIMARY KEY (account, source)
);

-- Every checkpoint that was ever signed.
CREATE TABLE checkpoint (
    account TEXT COLLATE "C" NOT NULL,
    size    BIGINT NOT NULL,
    note    BYTEA NOT NULL,
    PRIMARY KEY (account, size)
);

-- The verifier keys of the checkpoints. They are a convenience: a verifier pins keys that came another way.
CREATE TABLE log_key (
    account  TEXT COLLATE "C" NOT NULL,
    verifier TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, verifier)
);

-- What the signer signed last; it signs nothing that does not continue this.
CREATE TABLE signer_state (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    size    BIGINT NOT NULL,
    root    BYTEA NOT NULL,
    head    BYTEA NOT NULL,
    note    BYTEA NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION ledger_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger only grows: % refuses %', TG_TABLE_NAME, TG_OP;
END;
$$;
-- +goose StatementEnd

-- ENABLE ALWAYS: they also fire for a session that plays a replica, where ordinary triggers are silent.

CREATE TRIGGER entry_only_grows BEFORE UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION ledger_only_grows();
CREATE TRIGGER entry_no_truncate BEFORE TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
ALTER TABLE entry ENABLE ALWAYS TRIGGER entry_only_grows;
ALTER TABLE entry ENABLE ALWAYS TRIGGER entry_no_truncate;

CREATE TRIGGER entry_id_only_grows BEFORE UPDATE OR DELETE ON entry_id FOR EACH ROW EXECUTE FUNCTION ledger_only_grows();
CREATE TRIGGER entry_id_no_truncate BEFORE TRUNCATE ON entry_id FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
ALTER TABLE entry_id ENABLE ALWAYS TRIGGER entry_id_only_grows;
ALTER TABLE entry_id ENABLE ALWAYS TRIGGER entry_id_no_truncate;

CREATE TRIGGER checkpoint_only_grows BEFORE UPDATE OR DELETE ON checkpoint FOR EACH ROW EXECUTE FUNCTION ledger_only_grows();
CREATE TRIGGER checkpoint_no_truncate BEFORE TRUNCATE ON checkpoint FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
ALTER TABLE checkpoint ENABLE ALWAYS TRIGGER checkpoint_only_grows;
ALTER TABLE checkpoint ENABLE ALWAYS TRIGGER checkpoint_no_truncate;

CREATE TRIGGER log_key_only_grows BEFORE UPDATE OR DELETE ON log_key FOR EACH ROW EXECUTE FUNCTION ledger_only_grows();
CREATE TRIGGER log_key_no_truncate BEFORE TRUNCATE ON log_key FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
ALTER TABLE log_key ENABLE ALWAYS TRIGGER log_key_only_grows;
ALTER TABLE log_key ENABLE ALWAYS TRIGGER log_key_no_truncate;
