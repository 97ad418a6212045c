-- Who is let in, and which requests were answered already.

-- +goose Up

-- Only hashes of secrets; a stolen copy of this table opens nothing.
CREATE TABLE tokens (
    hash    TEXT PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    role    TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    data    TEXT NOT NULL
);
CREATE INDEX tokens_kind ON tokens (kind, created);

CREATE TABLE request_keys (
    name    TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    reply   TEXT NOT NULL,
    claimed BIGINT NOT NULL,
    settled BOOLEAN NOT NULL
);
