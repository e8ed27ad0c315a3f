"""Where everything is kept: the ledger (SQLite), content-addressed blobs, locks, leases, and files that are whole or not there.

Promises that a change of state is one transaction with its event in a hash chain, and that a full disk is told in words.
Exports ``ledger.Ledger``, ``blobs.BlobStore``, ``locks.Locks``, ``lease.HeldJob``, ``disk`` and ``archive``.
"""
