"""Frozen records and enums: the nouns of Noria. No I/O, no clock."""
