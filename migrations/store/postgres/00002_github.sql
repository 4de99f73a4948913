-- +goose Up

-- What GitHub says of a repository. All of it is NULL for one that did not come from GitHub.
-- covered: the installation covers it now.
ALTER TABLE repository ADD COLUMN installation BIGINT;
ALTER TABLE repository ADD COLUMN owner TEXT;
ALTER TABLE repository ADD COLUMN name TEXT;
ALTER TABLE repository ADD COLUMN default_branch TEXT;
ALTER TABLE repository ADD COLUMN private BOOLEAN;
ALTER TABLE repository ADD COLUMN archived BOOLEAN;
ALTER TABLE repository ADD COLUMN covered BOOLEAN;

-- Webhook deliveries: the inbox. The row stays, so that a delivery that comes again is known; its body, stored
-- as a document is, becomes NULL when its time of retention is over.
CREATE TABLE delivery (
    account      TEXT COLLATE "C" NOT NULL,
    guid         TEXT COLLATE "C" NOT NULL,
    event        TEXT NOT NULL,
    action       TEXT NOT NULL,
    installation BIGINT NOT NULL,
    received_at  BIGINT NOT NULL,
    state        TEXT NOT NULL DEFAULT 'received' CHECK (state IN ('received', 'done', 'refused')),
    attempts     BIGINT NOT NULL DEFAULT 0,
    processed_at BIGINT,
    note         TEXT NOT NULL DEFAULT '',
    encoding     TEXT NOT NULL CHECK (encoding IN ('raw', 'deflate')),
    size         BIGINT NOT NULL,
    body         BYTEA,
    PRIMARY KEY (account, guid),
    CHECK ((state = 'received') = (processed_at IS NULL))
);
CREATE INDEX delivery_pending ON delivery (attempts, received_at) WHERE state = 'received';
CREATE INDEX delivery_bodies ON delivery (account, received_at) WHERE body IS NOT NULL;

CREATE TABLE installation (
    account    TEXT COLLATE "C" NOT NULL,
    id         BIGINT NOT NULL,
    login      TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'deleted')),
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (account, id)
);

-- updated_at is GitHub's and orders two descriptions of one pull request.
CREATE TABLE pull (
    account    TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    number     BIGINT NOT NULL,
    head       TEXT COLLATE "C" NOT NULL,
    head_ref   TEXT NOT NULL,
    head_repo  BIGINT NOT NULL,
    base_ref   TEXT NOT NULL,
    base       TEXT NOT NULL,
    draft      BOOLEAN NOT NULL,
    open       BOOLEAN NOT NULL,
    title      TEXT NOT NULL,
    author_id  BIGINT NOT NULL,
    author     TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (account, repository, number),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id)
);
CREATE INDEX pull_head ON pull (account, repository, head);
CREATE INDEX pull_open ON pull (account, repository, number) WHERE open;

CREATE TABLE merge_group (
    account    TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    head       TEXT COLLATE "C" NOT NULL,
    head_ref   TEXT NOT NULL,
    base       TEXT NOT NULL,
    base_ref   TEXT NOT NULL,
    active     BOOLEAN NOT NULL,
    PRIMARY KEY (account, repository, head),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id)
);

-- A commit that gets a check run. Events raise the generation wanted; done is the one that was finished.
-- check_id is GitHub's, 0 while it is not known; check_tried: a creation was attempted; published is the digest
-- of what was published last.
CREATE TABLE head (
    account     TEXT COLLATE "C" NOT NULL,
    repository  TEXT COLLATE "C" NOT NULL,
    sha         TEXT COLLATE "C" NOT NULL,
    wanted      BIGINT NOT NULL,
    done        BIGINT NOT NULL DEFAULT 0,
    check_id    BIGINT NOT NULL DEFAULT 0,
    check_tried BOOLEAN NOT NULL DEFAULT FALSE,
    check_state TEXT NOT NULL DEFAULT '' CHECK (check_state IN ('', 'in_progress', 'completed')),
    published   TEXT NOT NULL DEFAULT '',
    changed_at  BIGINT NOT NULL,
    PRIMARY KEY (account, repository, sha),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id),
    CHECK (0 <= done AND done <= wanted)
);
CREATE INDEX head_wanted ON head (changed_at) WHERE wanted > done;

CREATE INDEX verdict_line ON verdict (account, repository, line, at);

-- +goose Down
DROP INDEX verdict_line;
DROP TABLE head;
DROP TABLE merge_group;
DROP TABLE pull;
DROP TABLE installation;
DROP TABLE delivery;
ALTER TABLE repository DROP COLUMN covered;
ALTER TABLE repository DROP COLUMN archived;
ALTER TABLE repository DROP COLUMN private;
ALTER TABLE repository DROP COLUMN default_branch;
ALTER TABLE repository DROP COLUMN name;
ALTER TABLE repository DROP COLUMN owner;
ALTER TABLE repository DROP COLUMN installation;
