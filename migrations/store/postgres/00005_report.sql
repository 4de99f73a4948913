-- +goose Up

-- What the report pages read, kept by Commit so that none of them counts a million findings. Dropping a table of
-- these loses no state: all of it follows from finding, verdict and the names.

-- How many findings of a line are open, by severity, and since when the oldest of them.
CREATE TABLE open_count (
    account    TEXT COLLATE "C" NOT NULL,
    line       TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    severity   INTEGER NOT NULL,
    open       BIGINT NOT NULL,
    oldest     BIGINT,
    PRIMARY KEY (account, line, repository, severity)
);

-- How many findings of a type are open on the account's default branches. shard spreads the writers of one type over
-- several rows; only the sum means something.
CREATE TABLE type_count (
    account  TEXT COLLATE "C" NOT NULL,
    type     TEXT COLLATE "C" NOT NULL,
    severity INTEGER NOT NULL,
    shard    INTEGER NOT NULL,
    open     BIGINT NOT NULL,
    PRIMARY KEY (account, type, severity, shard)
);

-- How many findings of the account's default branches were opened and resolved on a day (days since 1970, UTC).
CREATE TABLE day_count (
    account  TEXT COLLATE "C" NOT NULL,
    day      BIGINT NOT NULL,
    severity INTEGER NOT NULL,
    shard    INTEGER NOT NULL,
    opened   BIGINT NOT NULL,
    resolved BIGINT NOT NULL,
    PRIMARY KEY (account, day, severity, shard)
);

-- Every name that the account ("account") or one of its repositories ("repository") ever had, in lower case and
-- without the owner, and what had it last. Addresses of pages are made of names; an old one leads on.
CREATE TABLE known_name (
    account TEXT COLLATE "C" NOT NULL,
    noun    TEXT COLLATE "C" NOT NULL CHECK (noun IN ('account', 'repository')),
    name    TEXT COLLATE "C" NOT NULL,
    id      TEXT COLLATE "C" NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (account, noun, name)
);
CREATE INDEX known_name_login ON known_name (name, seen_at) WHERE noun = 'account';

-- The newest verdict on a line.
ALTER TABLE line ADD COLUMN verdict TEXT;
ALTER TABLE line ADD COLUMN conclusion TEXT;
ALTER TABLE line ADD COLUMN judged_at BIGINT;

INSERT INTO open_count (account, line, repository, severity, open, oldest)
    SELECT account, line, repository, severity, COUNT(*), MIN(first_seen)
    FROM finding WHERE state = 'open' GROUP BY account, line, repository, severity;
INSERT INTO type_count (account, type, severity, shard, open)
    SELECT account, type, severity, 0, COUNT(*) FROM finding WHERE state = 'open' AND line = 'default' GROUP BY account, type, severity;
INSERT INTO day_count (account, day, severity, shard, opened, resolved)
    SELECT account, day, severity, 0, SUM(opened), SUM(resolved) FROM (
        SELECT account, first_seen / 86400000000 AS day, severity, 1 AS opened, 0 AS resolved FROM finding WHERE line = 'default'
        UNION ALL
        SELECT account, resolved_at / 86400000000, severity, 0, 1 FROM finding WHERE line = 'default' AND state = 'resolved'
    ) AS step GROUP BY account, day, severity;
INSERT INTO account (account, login, created_at)
    SELECT account, MIN(login), MIN(changed_at) FROM installation WHERE state <> 'deleted' GROUP BY account
    ON CONFLICT (account) DO UPDATE SET login = excluded.login WHERE account.login = '';
INSERT INTO known_name (account, noun, name, id, seen_at)
    SELECT account, 'account', LOWER(login), account, created_at FROM account WHERE login <> '';
INSERT INTO known_name (account, noun, name, id, seen_at)
    SELECT account, 'repository', LOWER(name), MIN(id), MIN(last_changed) FROM repository
    WHERE name IS NOT NULL GROUP BY account, LOWER(name);
UPDATE line SET
    verdict = (SELECT v.id FROM verdict v WHERE v.account = line.account AND v.repository = line.repository AND v.line = line.name
        ORDER BY v.at DESC, v.version DESC, v.id LIMIT 1),
    conclusion = (SELECT v.conclusion FROM verdict v WHERE v.account = line.account AND v.repository = line.repository AND v.line = line.name
        ORDER BY v.at DESC, v.version DESC, v.id LIMIT 1),
    judged_at = (SELECT MAX(v.at) FROM verdict v WHERE v.account = line.account AND v.repository = line.repository AND v.line = line.name);

CREATE INDEX line_name ON line (account, name, repository);
CREATE INDEX finding_list ON finding (account, line, state, severity, first_seen, repository, fingerprint, content);
CREATE INDEX finding_id ON finding (account, id, repository);
CREATE INDEX finding_oldest ON finding (account, repository, line, severity, first_seen) WHERE state = 'open';
DROP INDEX finding_open;
CREATE INDEX verdict_time ON verdict (account, at);
CREATE INDEX verdict_head ON verdict (account, repository, head);
CREATE INDEX waiver_open ON waiver (account, until_at, id) WHERE state IN ('pending', 'active');
CREATE INDEX waiver_ended ON waiver (account, changed_at, id) WHERE state NOT IN ('pending', 'active');
CREATE INDEX outbox_at ON outbox (account, source, at);

-- +goose Down
DROP INDEX outbox_at;
DROP INDEX waiver_ended;
DROP INDEX waiver_open;
DROP INDEX verdict_head;
DROP INDEX verdict_time;
CREATE INDEX finding_open ON finding (account, repository, line) WHERE state = 'open';
DROP INDEX finding_oldest;
DROP INDEX finding_id;
DROP INDEX finding_list;
DROP INDEX line_name;
ALTER TABLE line DROP COLUMN judged_at;
ALTER TABLE line DROP COLUMN conclusion;
ALTER TABLE line DROP COLUMN verdict;
DROP TABLE known_name;
DROP TABLE day_count;
DROP TABLE type_count;
DROP TABLE open_count;
