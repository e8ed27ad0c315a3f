"""Numerics of the judges: arrays in, numbers out.

Promises to be pure: no file, no clock, no database, and equal input gives equal output.
Exports ``metrics``, bounds (``intervals``, ``proportions``, ``quantiles``, ``influence``) and evidence that may be looked at
at any time (``eprocess``, ``betting``).
"""
