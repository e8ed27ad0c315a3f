-- What was refused under one contract is judged again under another.
ALTER TABLE deliveries ADD COLUMN contract TEXT NOT NULL DEFAULT '';
