"""The judges: facts in, a verdict with its reasons out. No clock, no database, no file."""
