-- The stat index: what a file looked like from outside when its content was hashed.
CREATE TABLE marks (
    project TEXT NOT NULL,
    place   TEXT NOT NULL,                  -- data:NAME, or tree:PATH
    name    TEXT NOT NULL,
    seen    TEXT NOT NULL,
    digest  TEXT NOT NULL,
    PRIMARY KEY (project, place, name)
) WITHOUT ROWID;

-- A run is a turn's, or an experiment, or one trial of a search; its parameters are kept flat, to be searched.
ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'turn';
ALTER TABLE runs ADD COLUMN parent TEXT;
ALTER TABLE runs ADD COLUMN params TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN artifacts TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN plots TEXT NOT NULL DEFAULT '{}';

-- Metrics over time: the points that steps appended to their files, kept in pieces, one row for each metric of a step.
CREATE TABLE series (
    project TEXT NOT NULL,
    run_id  TEXT NOT NULL,
    step    TEXT NOT NULL,
    metric  TEXT NOT NULL,
    points  TEXT NOT NULL,                  -- JSON: [[x, value], ...] in the order they were logged
    PRIMARY KEY (project, run_id, step, metric)
) WITHOUT ROWID;
