"""Datasets: where their files come from, what each file must hold, which type a column has, and the versions that were accepted.

Promises that a file is accepted or refused whole, and that an accepted version never changes.
Exports ``arrivals``, ``versions``, ``snapshot.Snapshot``, ``judge_contract``, ``table.TableType``, ``formats`` and
``sources``.
"""
