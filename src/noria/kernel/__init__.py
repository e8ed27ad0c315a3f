"""What every room builds on: errors, names and digests, words, events, verdicts, policies, orphaned processes.

Promises to import no other room and nothing heavy.
Exports ``errors``, ``names``, ``words``, ``event.Event``, ``verdict.Verdict``, ``policy`` and ``background.Background``.
"""
