"""The data plane: answers requests by the newest route, whatever happens to the rest of Noria.

Promises that no request fails while releases change, that what it answered is on disk before the answer leaves, and that it
imports no control plane.
Exports ``client.Server`` for whoever starts and asks it, ``supervisor`` (`python -m noria.serving`), and the
records that it shares with delivery: ``route.Route``, ``tallies.Tally`` and ``crash_record.Crashes``.
"""
