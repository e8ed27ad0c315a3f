"""What every room builds on: errors, names and digests, words, events, verdicts, policies, orphaned processes.

Promises to import no other room, and no numerics, database or web server.
Exports ``errors``, ``names``, ``words``, ``event.Event``, ``verdict.Verdict``, ``policy`` and ``background.Background``.
"""
