-- Hashes of held-out rows are keyed: whoever has the ledger alone cannot find out whether a known key was among them.
ALTER TABLE holdout_looks ADD COLUMN keyed INTEGER NOT NULL DEFAULT 0;  -- 0: of earlier versions, salted by the project's name
