-- What a person decided to keep for ever, what was erased, and how far back a collection went.

CREATE TABLE pinned (                       -- versions of datasets, by a name that a person gave
    project TEXT NOT NULL,
    name    TEXT NOT NULL,
    digest  TEXT NOT NULL,                  -- of the snapshot
    actor   TEXT NOT NULL,
    at      REAL NOT NULL,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;

CREATE TABLE erased (                       -- bytes that a person took away for good: nothing is missing where they were
    project TEXT NOT NULL,
    digest  TEXT NOT NULL,                  -- of the blob
    dataset TEXT NOT NULL,
    name    TEXT NOT NULL,                  -- of the file
    actor   TEXT NOT NULL,
    at      REAL NOT NULL,
    PRIMARY KEY (project, digest)
) WITHOUT ROWID;

CREATE TABLE collected (                    -- runs that ended before this may have lost their files
    project TEXT PRIMARY KEY,
    before  REAL NOT NULL
) WITHOUT ROWID;
