-- +goose Up

-- The tenant. content_key is the secret under which findings' contents are digested; made at first use.
CREATE TABLE account (
    account     TEXT NOT NULL PRIMARY KEY,
    login       TEXT NOT NULL DEFAULT '',
    content_key BLOB,
    created_at  BIGINT NOT NULL
);

CREATE TABLE repository (
    account      TEXT NOT NULL,
    id           TEXT NOT NULL,
    full_name    TEXT NOT NULL,
    version      BIGINT NOT NULL,
    first_seen   BIGINT NOT NULL,
    last_changed BIGINT NOT NULL,
    PRIMARY KEY (account, id)
);

-- A line of history whose findings are tracked: "worktree", "default", "pull/12". Compare-and-set works on
-- its version.
CREATE TABLE line (
    account    TEXT NOT NULL,
    repository TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    head       TEXT NOT NULL,
    tree       TEXT NOT NULL,
    audited_at BIGINT,
    PRIMARY KEY (account, repository, name),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id)
);

-- body is the finding in canonical form; the other columns repeat what queries select by. severity is a
-- rank, 0 (info) to 4 (critical).
CREATE TABLE finding (
    account      TEXT NOT NULL,
    repository   TEXT NOT NULL,
    line         TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    content      TEXT NOT NULL,
    id           TEXT NOT NULL,
    type         TEXT NOT NULL,
    severity     INTEGER NOT NULL,
    path         TEXT NOT NULL,
    body         BLOB NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('open', 'resolved')),
    first_seen   BIGINT NOT NULL,
    last_changed BIGINT NOT NULL,
    resolved_at  BIGINT,
    PRIMARY KEY (account, repository, line, fingerprint, content),
    FOREIGN KEY (account, repository, line) REFERENCES line (account, repository, name),
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
CREATE INDEX finding_open ON finding (account, repository, line) WHERE state = 'open';

-- Inputs and results by the SHA-256 of their bytes. size counts the bytes before compression.
CREATE TABLE document (
    account    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    encoding   TEXT NOT NULL CHECK (encoding IN ('raw', 'deflate')),
    size       BIGINT NOT NULL,
    body       BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, digest)
);

-- id is the digest of the verdict's document, so a verdict without its bytes cannot be stored. short is the
-- start of it in the alphabet people type.
CREATE TABLE verdict (
    account    TEXT NOT NULL,
    id         TEXT NOT NULL,
    short      TEXT NOT NULL,
    repository TEXT NOT NULL,
    line       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    head       TEXT NOT NULL,
    base       TEXT NOT NULL,
    conclusion TEXT NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (account, id),
    FOREIGN KEY (account, id) REFERENCES document (account, digest),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id)
);
CREATE INDEX verdict_short ON verdict (account, short);
CREATE INDEX verdict_recent ON verdict (account, repository, at);

CREATE TABLE audit (
    account    TEXT NOT NULL,
    id         TEXT NOT NULL,
    repository TEXT NOT NULL,
    line       TEXT NOT NULL,
    head       TEXT NOT NULL,
    base       TEXT NOT NULL,
    started    BIGINT NOT NULL,
    finished   BIGINT NOT NULL,
    stats      BLOB NOT NULL,
    PRIMARY KEY (account, id),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id)
);

-- Results of auditors. Losing any of it costs time only.
CREATE TABLE cache (
    account TEXT NOT NULL,
    key     TEXT NOT NULL,
    body    BLOB NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (account, key)
);
CREATE INDEX cache_age ON cache (account, used_at, key);

-- The last sequence number given in each stream of entries.
CREATE TABLE stream (
    account TEXT NOT NULL,
    source  TEXT NOT NULL,
    sseq    BIGINT NOT NULL,
    PRIMARY KEY (account, source)
);

-- Entries on their way to the ledger; seq is NULL until the ledger holds them.
CREATE TABLE outbox (
    account TEXT NOT NULL,
    id      TEXT NOT NULL,
    source  TEXT NOT NULL,
    sseq    BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    body    BLOB NOT NULL,
    seq     BIGINT,
    PRIMARY KEY (account, id),
    UNIQUE (account, source, sseq)
);
CREATE INDEX outbox_pending ON outbox (account, source, sseq) WHERE seq IS NULL;
CREATE UNIQUE INDEX outbox_seq ON outbox (account, seq) WHERE seq IS NOT NULL;

-- +goose Down
DROP TABLE outbox;
DROP TABLE stream;
DROP TABLE cache;
DROP TABLE audit;
DROP TABLE verdict;
DROP TABLE document;
DROP TABLE finding;
DROP TABLE line;
DROP TABLE repository;
DROP TABLE account;
