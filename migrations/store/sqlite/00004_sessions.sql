-- +goose Up

-- Sign-ins of people. They belong to the deployment, so account is always 'deployment': one person signs in once and
-- may have roles in several accounts.
-- hash is the SHA-256 of the token in the browser's cookie, which is kept nowhere. flow names the sign-in that made
-- the row, so that one sign-in makes one. accounts are those in which the person has a role, as ',1,2,'; grants are the
-- roles in full. sealed is what rights are asked for with, encrypted under the token. A session is over at until_at,
-- which moves on with its use, up to ends_at.
CREATE TABLE session (
    account    TEXT NOT NULL,
    id         TEXT NOT NULL,
    hash       TEXT NOT NULL,
    flow       TEXT NOT NULL,
    source     TEXT NOT NULL,
    person     BIGINT NOT NULL,
    login      TEXT NOT NULL,
    accounts   TEXT NOT NULL,
    grants     BLOB NOT NULL,
    sealed     BLOB NOT NULL,
    agent      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    until_at   BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL,
    PRIMARY KEY (account, id),
    CHECK (until_at <= ends_at)
);
CREATE UNIQUE INDEX session_hash ON session (account, hash);
CREATE UNIQUE INDEX session_flow ON session (account, flow);
CREATE INDEX session_person ON session (account, person);
CREATE INDEX session_until ON session (account, until_at);

-- +goose Down
DROP TABLE session;
