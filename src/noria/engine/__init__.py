"""The wheel: triggers start turns, and a turn runs from its trigger to a release in production.

Promises that one turn runs at a time in a project, under a lease, and that an interrupted one is rerun by the next engine.
Exports ``turn.turn``, ``turn_runner``, ``trigger_watcher``, ``action_table`` and ``actions`` (what a person may do) and
``assembly``, the only place that builds objects and wires them together.
"""
