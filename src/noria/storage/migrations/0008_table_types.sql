-- What a dataset's table is: its columns with their types, decided once; and where the files came from that decided it.
CREATE TABLE tables (
    project TEXT NOT NULL,
    dataset TEXT NOT NULL,
    source  TEXT NOT NULL,                  -- as noria.yaml says it: when it changes, files of the old one leave the dataset
    basis   TEXT NOT NULL,                  -- digest of what contract and noria.yaml say of types, as they stood then
    type    TEXT NOT NULL,                  -- JSON: {"columns": {NAME: {kind, format, zone, said, why}}} of the accepted files
    PRIMARY KEY (project, dataset)
) WITHOUT ROWID;

ALTER TABLE deliveries ADD COLUMN example TEXT NOT NULL DEFAULT '';      -- a value for which it was refused; goes when its bytes are erased
