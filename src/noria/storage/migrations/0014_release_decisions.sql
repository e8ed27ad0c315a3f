-- What a person has to decide about a sealed release before it goes out, and what was decided: shown with it for ever.
CREATE TABLE release_decisions (
    project    TEXT NOT NULL,
    release    TEXT NOT NULL,
    kind       TEXT NOT NULL,               -- gates: they had not enough data; policy: its commit changes policy
    asked      TEXT NOT NULL,               -- what there is to accept
    asked_at   REAL NOT NULL,
    actor      TEXT,                        -- who accepted it; NULL: nobody has yet
    why        TEXT,
    decided_at REAL,
    PRIMARY KEY (project, release, kind)
);

CREATE TABLE policy_approvals (
    project TEXT NOT NULL,
    before  TEXT NOT NULL,                  -- digest of the policy that was in force
    after   TEXT NOT NULL,                  -- digest of the policy that was approved in its place
    changes TEXT NOT NULL,
    actor   TEXT NOT NULL,
    why     TEXT NOT NULL,
    at      REAL NOT NULL,
    PRIMARY KEY (project, before, after)
);
