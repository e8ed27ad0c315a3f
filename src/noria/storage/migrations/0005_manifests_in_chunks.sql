-- A manifest is kept as chunks of its sorted entries, which begin where a hash of the name says: a version that differs in one file
-- shares all chunks but one or two with the former. The digest of a manifest is made of its chunks', so that the digests of versions
-- from before this migration are not those of the same files now: the first turn afterwards finds its data "changed", once.
-- Older rows of `snapshots` keep their manifest in `files`, and their digest.

ALTER TABLE files ADD COLUMN origin TEXT;                        -- address and version of a remote object that was not copied

ALTER TABLE snapshots ADD COLUMN chunks TEXT NOT NULL DEFAULT '';    -- JSON: keys in order; '' when the entries stand in `files`
ALTER TABLE snapshots ADD COLUMN file_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN row_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE snapshots SET
    file_count = json_array_length(files),
    row_count = (SELECT COALESCE(sum(json_extract(value, '$.rows')), 0) FROM json_each(snapshots.files)),
    size_bytes = (SELECT COALESCE(sum(json_extract(value, '$.size_bytes')), 0) FROM json_each(snapshots.files));

CREATE TABLE chunks (
    project TEXT NOT NULL,
    key     TEXT NOT NULL,                  -- digest of the text beside it
    files   TEXT NOT NULL,                  -- JSON: [[name, digest, size_bytes, rows, origin?], ...]
    PRIMARY KEY (project, key)
);

CREATE TABLE heads (                        -- the newest manifest of each dataset, to be brought up to date from `touched`
    project TEXT NOT NULL,
    dataset TEXT NOT NULL,
    digest  TEXT NOT NULL,
    chunks  TEXT NOT NULL,                  -- JSON: [[first name, key, identity, files, rows, size_bytes], ...]
    PRIMARY KEY (project, dataset)
);

CREATE TABLE touched (                      -- names in `files` that changed since the head was made
    project TEXT NOT NULL,
    dataset TEXT NOT NULL,
    name    TEXT NOT NULL,
    PRIMARY KEY (project, dataset, name)
) WITHOUT ROWID;
