-- What a person decided of a file in quarantine; why a file was refused, reason by reason; files without the rows that failed.
CREATE TABLE quarantine_decisions (
    project     TEXT NOT NULL,
    delivery    TEXT NOT NULL,              -- id of what was refused, whole or in part
    outcome     TEXT NOT NULL,              -- released, discarded
    actor       TEXT NOT NULL,
    why         TEXT NOT NULL,
    at          REAL NOT NULL,
    accepted_as TEXT NOT NULL DEFAULT '',   -- id of the delivery that a release made
    PRIMARY KEY (project, delivery)
) WITHOUT ROWID;

ALTER TABLE deliveries ADD COLUMN reasons TEXT NOT NULL DEFAULT '[]';       -- JSON: code, sentence and rows of each broken promise
ALTER TABLE deliveries ADD COLUMN kept_digest TEXT NOT NULL DEFAULT '';     -- of the file of good rows, where others were dropped
ALTER TABLE files ADD COLUMN made_from TEXT;                                -- digest of the file as it arrived, where rows of it were dropped
