-- Times are nanoseconds since 1970 UTC, 0 for "not set"; the largest integer
-- stands for "has not ended". Bodies are JSON of the public words.

-- +goose Up

-- Counters: change, event, policy.
CREATE TABLE numbers (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- The fencing pair: one row, so that taking a number checks the epoch too.
CREATE TABLE helm (
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    epoch    BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
INSERT INTO helm (id, epoch, revision) VALUES (1, 0, 0);

-- One row per asset: when its ports were last looked at, and how often its
-- spans have changed.
CREATE TABLE assets (
    name       TEXT PRIMARY KEY,
    generation BIGINT NOT NULL,
    seen       BIGINT NOT NULL
);

-- When we looked: per asset at its ports, and at who uses them.
CREATE TABLE coverage (
    topic    TEXT NOT NULL,
    from_at  BIGINT NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (topic, from_at)
);
CREATE INDEX coverage_until ON coverage (topic, until_at);

-- What was true of an endpoint, from one time until another.
CREATE TABLE spans (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset      TEXT NOT NULL REFERENCES assets (name),
    address    TEXT NOT NULL,
    transport  TEXT NOT NULL,
    port       BIGINT NOT NULL,
    state_hash TEXT NOT NULL,
    body_hash  TEXT NOT NULL,
    body       TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    from_at    BIGINT NOT NULL,
    until_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX spans_present ON spans (asset, address, transport, port) WHERE until_at = 9223372036854775807;
CREATE INDEX spans_history ON spans (asset, address, transport, port, from_at);
CREATE INDEX spans_ended ON spans (until_at);

CREATE TABLE uses (
    transport TEXT NOT NULL,
    port      BIGINT NOT NULL,
    source    TEXT NOT NULL,
    hour      BIGINT NOT NULL,
    first_at  BIGINT NOT NULL,
    last_at   BIGINT NOT NULL,
    bytes_in  BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    observer  TEXT NOT NULL,
    PRIMARY KEY (transport, port, source, hour)
);
CREATE INDEX uses_last ON uses (last_at);

CREATE TABLE changes (
    id      TEXT PRIMARY KEY,
    asset   TEXT NOT NULL,
    state   TEXT NOT NULL,
    over    BOOLEAN NOT NULL,
    asked   BIGINT NOT NULL,
    version BIGINT NOT NULL,
    body    TEXT NOT NULL
);
CREATE INDEX changes_asked ON changes (asked);
CREATE INDEX changes_open ON changes (over, asked);

CREATE TABLE story (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change_id TEXT NOT NULL REFERENCES changes (id),
    body      TEXT NOT NULL
);
CREATE INDEX story_change ON story (change_id, id);

CREATE TABLE vantages (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

-- The latest answer per vantage, address and port.
CREATE TABLE probes (
    vantage   TEXT NOT NULL,
    address   TEXT NOT NULL,
    transport TEXT NOT NULL,
    port      BIGINT NOT NULL,
    zone      TEXT NOT NULL,
    reach     TEXT NOT NULL,
    reason    TEXT NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (vantage, address, transport, port)
);
CREATE INDEX probes_at ON probes (at);

-- Answers that were followed by a different one.
CREATE TABLE probe_history (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vantage   TEXT NOT NULL,
    address   TEXT NOT NULL,
    transport TEXT NOT NULL,
    port      BIGINT NOT NULL,
    zone      TEXT NOT NULL,
    reach     TEXT NOT NULL,
    reason    TEXT NOT NULL,
    at        BIGINT NOT NULL
);
CREATE INDEX probe_history_port ON probe_history (address, transport, port, at);
CREATE INDEX probe_history_at ON probe_history (at);

CREATE TABLE grants (
    id     TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    ended  BIGINT NOT NULL,
    body   TEXT NOT NULL
);

CREATE TABLE policies (
    number     BIGINT PRIMARY KEY,
    hash       TEXT NOT NULL,
    applied    BIGINT NOT NULL,
    applied_by TEXT NOT NULL,
    document   TEXT NOT NULL
);

CREATE TABLE events (
    number    BIGINT PRIMARY KEY,
    at        BIGINT NOT NULL,
    kind      TEXT NOT NULL,
    change_id TEXT NOT NULL,
    body      TEXT NOT NULL
);
CREATE INDEX events_at ON events (at);
