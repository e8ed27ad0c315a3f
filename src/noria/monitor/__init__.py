"""Watches a release while it serves: quality by window as labels arrive, drift of the inputs, alerts, retraining.

Promises to read each record of the prediction log once, in bounded memory whatever the traffic.
Exports ``watch.watch``, ``retraining.learn`` and the records of windows and alerts.
"""
