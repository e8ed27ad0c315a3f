"""Releases: immutable, signed bundles of code, data pins, parameters, environment, model and evidence.

Promises that a bundle is believed only when it is whole and signed, and that a release can leave the machine and come back.
Exports ``release.Release``, ``bundle.open_bundle`` and ``bundle.Manifest``, ``sealing.release``, ``packaging.package``,
``export``, ``export_reader``, ``importing`` and ``signing``.
"""
