-- What a turn's candidate was measured to be, and what each gate said of it, whether it was released or not.
CREATE TABLE evaluations (
    turn_id     TEXT PRIMARY KEY,
    project     TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    environment TEXT NOT NULL,              -- whose champion it was compared with
    outcome     TEXT,                       -- of all gates; NULL where a turn was interrupted before them
    reasons     TEXT NOT NULL,              -- JSON
    gates       TEXT NOT NULL,              -- JSON: what came of each gate
    evaluation  TEXT NOT NULL,              -- JSON; a number that could not be measured is null
    at          REAL NOT NULL
);
CREATE INDEX evaluations_by_run ON evaluations (project, run_id);
CREATE INDEX evaluations_by_time ON evaluations (project, at);

-- They stood among what a turn fixed for itself.
INSERT INTO evaluations
SELECT measured.turn_id, measured.project,
       COALESCE(turns.run_id, CASE WHEN json_valid(pinned.facts) THEN json_extract(pinned.facts, '$.run_id') END, ''),
       COALESCE(json_extract(judged.facts, '$.environment'), ''),
       json_extract(judged.facts, '$.outcome'),
       COALESCE(json_extract(judged.facts, '$.reasons'), '[]'),
       COALESCE(json_extract(judged.facts, '$.gates'), '[]'),
       measured.facts,
       COALESCE(turns.ended_at, turns.started_at, 0.0)
  FROM turn_records AS measured
  LEFT JOIN turns ON turns.id = measured.turn_id
  LEFT JOIN turn_records AS judged
    ON judged.turn_id = measured.turn_id AND judged.stage = 'gate' AND json_valid(judged.facts)
  LEFT JOIN turn_records AS pinned ON pinned.turn_id = measured.turn_id AND pinned.stage = 'pin'
 WHERE measured.stage = 'evaluate' AND json_valid(measured.facts);
DELETE FROM turn_records WHERE stage IN ('evaluate', 'gate') AND turn_id IN (SELECT turn_id FROM evaluations);
