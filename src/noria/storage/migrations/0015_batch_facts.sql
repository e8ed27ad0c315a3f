-- A few numbers about each accepted file and its columns: the history against which the next file is judged. No values of rows.
CREATE TABLE batch_facts (
    project TEXT NOT NULL,
    dataset TEXT NOT NULL,
    name    TEXT NOT NULL,
    digest  TEXT NOT NULL,
    at      REAL NOT NULL,
    unusual INTEGER NOT NULL,               -- whether it was, against the history of then
    facts   TEXT NOT NULL,                  -- JSON: rows, duplicates, of each column nulls, mean, sd, categories (hashes with counts)
    PRIMARY KEY (project, dataset, name)
);
CREATE INDEX batch_facts_by_time ON batch_facts (project, dataset, at);
