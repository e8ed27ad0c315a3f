"""What a candidate is worth: measures and slices on the held-out rows, beside the champion's on the same rows, and the gates.

Promises that candidate and champion are scored through their sealed forms, and that one verdict says all of its reasons.
Exports ``evaluate.evaluate``, ``measure.measure``, ``gate.gate``, ``latency`` (what whoever serves a candidate must be able to
do) and the records of an evaluation.
"""
