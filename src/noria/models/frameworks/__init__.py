"""Frameworks: one file each, found by ``registry.py``; nothing in the core knows their names."""
