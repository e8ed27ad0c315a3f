-- What serves, on the rows that an experiment or a trial was judged on.

ALTER TABLE runs ADD COLUMN serving TEXT NOT NULL DEFAULT '{}';  -- JSON: release, metrics, note; empty where nothing served
