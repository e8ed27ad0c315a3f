-- The curves of an evaluation (ROC, calibration, residuals ...) as JSON; an evaluation of before has none.
CREATE TABLE evaluation_curves (
    turn_id TEXT PRIMARY KEY,
    curves  TEXT NOT NULL
);
