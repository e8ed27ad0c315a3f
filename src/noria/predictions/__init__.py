"""The prediction log: what was answered, what came back for it, and what another release would have said.

Promises that what was acknowledged is read back, whatever died, and that damage loses nothing that can still be read.
Exports ``writer.LogWriter``, ``reader`` (the one way to read it), ``label_join`` (which label belongs to which prediction),
``log_query`` for questions, ``newest``, ``compaction`` and the records of the log.
"""
