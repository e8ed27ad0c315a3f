"""Executors: where steps run. One file each; all speak the protocol in ``local.py``."""
