-- +goose Up

-- follows: the head before this one, as the event that brought it says; '' when it says nothing, 'none' for a pull
-- request that was just opened. It puts two events of one second in order.
-- pusher: the numeric id of who brought the head; 0 when it is not known.
ALTER TABLE pull ADD COLUMN follows TEXT NOT NULL DEFAULT '';
ALTER TABLE pull ADD COLUMN pusher BIGINT NOT NULL DEFAULT 0;

-- The last generation that asks for the code to be looked at again; later ones ask for another judgement of what was
-- found, as a waiver does.
ALTER TABLE head ADD COLUMN audit_wanted BIGINT NOT NULL DEFAULT 0;
UPDATE head SET audit_wanted = wanted;

-- A waiver: body is all of it, the columns repeat what is searched by. due_at: when time itself changes it next,
-- NULL when it has ended. version counts its changes.
CREATE TABLE waiver (
    account      TEXT COLLATE "C" NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    digest       TEXT COLLATE "C" NOT NULL,
    repository   TEXT COLLATE "C" NOT NULL,
    fingerprint  TEXT COLLATE "C" NOT NULL,
    content      TEXT COLLATE "C" NOT NULL,
    finding      TEXT COLLATE "C" NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'active', 'rejected', 'lapsed', 'expired', 'revoked', 'superseded', 'resolved')),
    suspended    BOOLEAN NOT NULL,
    pull         BIGINT NOT NULL,
    requester    BIGINT NOT NULL,
    requested_at BIGINT NOT NULL,
    until_at     BIGINT NOT NULL,
    due_at       BIGINT,
    changed_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    body         BYTEA NOT NULL,
    PRIMARY KEY (account, id),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id)
);
CREATE INDEX waiver_finding ON waiver (account, repository, fingerprint);
CREATE INDEX waiver_pull ON waiver (account, repository, pull);
CREATE INDEX waiver_until ON waiver (account, until_at, id);
CREATE INDEX waiver_due ON waiver (due_at) WHERE due_at IS NOT NULL;

-- A comment or review that commanded something: it is known again when it comes twice, is edited or deleted.
-- waivers: the ids of what rests on it, separated by spaces. answer: the reply, until it is posted (answered).
CREATE TABLE command (
    account    TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    surface    TEXT COLLATE "C" NOT NULL CHECK (surface IN ('comment', 'review', 'review_comment')),
    id         BIGINT NOT NULL,
    pull       BIGINT NOT NULL,
    author     BIGINT NOT NULL,
    digest     TEXT COLLATE "C" NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('done', 'edited', 'deleted')),
    waivers    TEXT NOT NULL,
    reaction   TEXT NOT NULL,
    answer     TEXT NOT NULL,
    tries      BIGINT NOT NULL DEFAULT 0,
    answered   BOOLEAN NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (account, repository, surface, id),
    FOREIGN KEY (account, repository) REFERENCES repository (account, id)
);
CREATE INDEX command_unanswered ON command (at) WHERE NOT answered;
CREATE INDEX command_author ON command (account, repository, author, at);

-- +goose Down
DROP TABLE command;
DROP TABLE waiver;
ALTER TABLE head DROP COLUMN audit_wanted;
ALTER TABLE pull DROP COLUMN pusher;
ALTER TABLE pull DROP COLUMN follows;
