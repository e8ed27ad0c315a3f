-- Each verdict that was told about a candidate: on which held-out rows, so that a holdout has a budget of looks.
CREATE TABLE holdout_looks (
    turn_id   TEXT PRIMARY KEY,
    project   TEXT NOT NULL,
    candidate TEXT NOT NULL,                -- digest: the same candidate on the same rows is no new look
    row_count INTEGER NOT NULL,
    smallest  BLOB NOT NULL,                -- the smallest hashes of the rows' keys, 8 bytes each, at most 1,024
    at        REAL NOT NULL
);
CREATE INDEX holdout_looks_by_time ON holdout_looks (project, at);

ALTER TABLE evaluations ADD COLUMN holdout TEXT;  -- JSON: how much of the budget the look used; NULL before it was counted
