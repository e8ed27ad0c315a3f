"""Evaluates candidates: metrics and slices on the held-out rows, compared with the champion on the same rows, and the gates.

Promises that candidate and champion are scored through their sealed forms, and that one verdict says all of its reasons.
Exports ``evaluate.evaluate``, ``measure.measure``, ``gate.gate``, ``latency`` (what whoever serves a candidate must be able to
do) and the records of an evaluation.
"""
