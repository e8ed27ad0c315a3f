-- The same bytes may be judged again after another version took their place: a delivery is known by its id alone.

CREATE TABLE deliveries_anew (
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
    CHECK (rows_in = rows_passed + rows_quarantined)
);
INSERT INTO deliveries_anew (id, project, dataset, name, digest, rows_in, rows_passed, rows_quarantined, accepted, reason,
                             failing_rows, sample_digest, at)
SELECT id, project, dataset, name, digest, rows_in, rows_passed, rows_quarantined, accepted, reason,
       failing_rows, sample_digest, at
FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_anew RENAME TO deliveries;
CREATE INDEX deliveries_by_time ON deliveries (project, at);
CREATE INDEX deliveries_by_content ON deliveries (project, dataset, name, digest, at);

-- Every row has its project.
ALTER TABLE turn_records ADD COLUMN project TEXT NOT NULL DEFAULT '';
UPDATE turn_records SET project = COALESCE((SELECT turns.project FROM turns WHERE turns.id = turn_records.turn_id), '');
