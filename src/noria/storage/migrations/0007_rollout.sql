-- Shadow, sticky assignment, replay, probation, holding: what a route and a rollout carry since.

ALTER TABLE routes ADD COLUMN shadow REAL NOT NULL DEFAULT 0;
ALTER TABLE routes ADD COLUMN sticky INTEGER NOT NULL DEFAULT 0;

ALTER TABLE rollouts ADD COLUMN "before" TEXT;
ALTER TABLE rollouts ADD COLUMN patient_clock REAL NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN step_clock REAL NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN step_at REAL NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN resumes TEXT;
ALTER TABLE rollouts ADD COLUMN look TEXT;
ALTER TABLE rollouts ADD COLUMN plan TEXT NOT NULL DEFAULT '[]';
