-- Every row names its project. JSON columns hold the nested parts of frozen records (see domain/).

CREATE TABLE projects (
    name       TEXT PRIMARY KEY,
    home       TEXT NOT NULL,
    created_at REAL NOT NULL
);

CREATE TABLE clocks (                       -- absent: the wall clock
    project TEXT PRIMARY KEY,
    wall    REAL NOT NULL,                  -- when it was set
    at      REAL NOT NULL,                  -- what it was set to
    speed   REAL NOT NULL
);

CREATE TABLE events (                       -- the audit log: a hash chain over the whole ledger
    seq         INTEGER PRIMARY KEY,
    project     TEXT NOT NULL,
    at          REAL NOT NULL,
    clock_at    REAL NOT NULL,
    clock_speed REAL NOT NULL,
    actor       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    text        TEXT NOT NULL,
    facts       TEXT NOT NULL,
    previous    TEXT NOT NULL,
    hash        TEXT NOT NULL
);
CREATE INDEX events_by_project ON events (project, seq);
CREATE INDEX events_by_kind ON events (project, kind, seq);

CREATE TABLE triggers (
    id      TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    kind    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    detail  TEXT NOT NULL,
    at      REAL NOT NULL,
    turn_id TEXT,
    dedupe  TEXT,
    UNIQUE (project, dedupe)
);
CREATE INDEX triggers_by_turn ON triggers (project, turn_id);

CREATE TABLE turns (
    id         TEXT PRIMARY KEY,
    project    TEXT NOT NULL,
    number     INTEGER NOT NULL,
    triggers   TEXT NOT NULL,
    "trigger"  TEXT NOT NULL,
    started_at REAL NOT NULL,
    stage      TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    run_id     TEXT,
    release    TEXT,
    ended_at   REAL,
    user_s     REAL NOT NULL,
    overhead_s REAL,
    UNIQUE (project, number)
);
CREATE INDEX turns_by_outcome ON turns (project, outcome);

CREATE TABLE turn_records (                 -- what a turn fixed once and for all: the first record wins
    turn_id TEXT NOT NULL,
    stage   TEXT NOT NULL,
    facts   TEXT NOT NULL,
    PRIMARY KEY (turn_id, stage)
);

CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    project    TEXT NOT NULL,
    turn_id    TEXT,
    pins       TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at   REAL,
    outcome    TEXT,
    reason     TEXT NOT NULL,
    steps      TEXT NOT NULL,
    metrics    TEXT NOT NULL
);
CREATE INDEX runs_by_start ON runs (project, started_at);

CREATE TABLE steps (                        -- results remembered by the digest of everything they depend on
    project TEXT NOT NULL,
    key     TEXT NOT NULL,
    name    TEXT NOT NULL,
    record  TEXT NOT NULL,
    facts   TEXT NOT NULL,
    at      REAL NOT NULL,
    PRIMARY KEY (project, key)
);
CREATE INDEX steps_by_name ON steps (project, name, at);

CREATE TABLE deliveries (                   -- a file as it arrived, judged once
    id               TEXT PRIMARY KEY,
    project          TEXT NOT NULL,
    dataset          TEXT NOT NULL,
    name             TEXT NOT NULL,
    digest           TEXT NOT NULL,
    rows_in          INTEGER NOT NULL,
    rows_passed      INTEGER NOT NULL,
    rows_quarantined INTEGER NOT NULL,
    accepted         INTEGER NOT NULL,
    reason           TEXT NOT NULL,
    failing_rows     INTEGER NOT NULL,
    sample_digest    TEXT,
    at               REAL NOT NULL,
    UNIQUE (project, dataset, name, digest),
    CHECK (rows_in = rows_passed + rows_quarantined)
);
CREATE INDEX deliveries_by_time ON deliveries (project, at);

CREATE TABLE files (                        -- the accepted files of each dataset, as of now
    project    TEXT NOT NULL,
    dataset    TEXT NOT NULL,
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    rows       INTEGER NOT NULL,
    PRIMARY KEY (project, dataset, name)
);

CREATE TABLE snapshots (
    project TEXT NOT NULL,
    digest  TEXT NOT NULL,
    dataset TEXT NOT NULL,
    files   TEXT NOT NULL,
    at      REAL NOT NULL,
    PRIMARY KEY (project, digest)
);
CREATE INDEX snapshots_by_time ON snapshots (project, dataset, at);

CREATE TABLE releases (
    project       TEXT NOT NULL,
    number        INTEGER NOT NULL,
    version       TEXT NOT NULL,
    digest        TEXT NOT NULL,
    run_id        TEXT NOT NULL,
    turn_id       TEXT,
    form          TEXT NOT NULL,
    created_at    REAL NOT NULL,
    "commit"      TEXT,
    metrics       TEXT NOT NULL,
    barred        TEXT,
    pins_identity TEXT NOT NULL,
    PRIMARY KEY (project, number),
    UNIQUE (project, digest),
    UNIQUE (project, turn_id)
);

CREATE TABLE routes (                       -- every desired state an environment ever had; the highest revision holds
    project           TEXT NOT NULL,
    environment       TEXT NOT NULL,
    revision          INTEGER NOT NULL,
    champion          TEXT NOT NULL,
    champion_version  TEXT NOT NULL,
    candidate         TEXT,
    candidate_version TEXT,
    share             REAL NOT NULL,
    previous          TEXT,
    previous_version  TEXT,
    rollout_id        TEXT,
    slow_ms           REAL NOT NULL,
    deadline_ms       REAL NOT NULL,
    PRIMARY KEY (project, environment, revision)
);

CREATE TABLE rollouts (
    id          TEXT PRIMARY KEY,
    project     TEXT NOT NULL,
    environment TEXT NOT NULL,
    turn_id     TEXT,
    release     TEXT NOT NULL,
    digest      TEXT NOT NULL,
    state       TEXT NOT NULL,
    step        INTEGER NOT NULL,
    started_at  REAL NOT NULL,
    ended_at    REAL,
    reason      TEXT NOT NULL,
    blocks      TEXT NOT NULL
);
CREATE INDEX rollouts_by_start ON rollouts (project, environment, started_at);

CREATE TABLE jobs (                         -- work to do, by one engine at a time: the fence grows with every claim
    id          TEXT PRIMARY KEY,
    project     TEXT NOT NULL,
    kind        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    state       TEXT NOT NULL,              -- open, done, dead
    dedupe      TEXT,                       -- of an open job; null once it is closed
    owner       TEXT,
    fence       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    lease_until REAL NOT NULL,
    not_before  REAL NOT NULL,
    outcome     TEXT,
    UNIQUE (project, dedupe)
);
CREATE INDEX jobs_open ON jobs (project, state, kind);

CREATE TABLE windows (
    project      TEXT NOT NULL,
    environment  TEXT NOT NULL,
    release      TEXT NOT NULL,
    start        REAL NOT NULL,
    "end"        REAL NOT NULL,
    metric       TEXT NOT NULL,
    predictions  INTEGER NOT NULL,
    labelled     INTEGER NOT NULL,
    value        REAL,
    reference    REAL NOT NULL,
    p_value      REAL,
    drift_score  REAL NOT NULL,
    drift_column TEXT NOT NULL,
    PRIMARY KEY (project, environment, release, start, metric)
);

CREATE TABLE alerts (
    id         TEXT PRIMARY KEY,
    project    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    release    TEXT NOT NULL,
    text       TEXT NOT NULL,
    at         REAL NOT NULL,
    trigger_id TEXT
);

CREATE TABLE approvals (
    project     TEXT NOT NULL,
    release     TEXT NOT NULL,
    environment TEXT NOT NULL,
    actor       TEXT NOT NULL,
    at          REAL NOT NULL,
    PRIMARY KEY (project, release, environment, actor)
);
