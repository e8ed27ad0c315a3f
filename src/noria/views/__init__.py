"""Read models: gather what people see from the ledger, once for the command line, the console, the control API and reports.

Promises to write nothing and to answer at once, without a heavy library.
Exports ``status.read``, ``runtime_status.surroundings``, ``rollout_steps.plan``, ``comparison.difference`` and ``totals``.
"""
