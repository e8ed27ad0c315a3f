"""Numerics of the judges: arrays in, numbers out."""
