"""Why one may believe the ledger, and what is kept and for how long: audit, retention, garbage collection, erasure.

Promises that a change behind Noria's back is found, and that nothing is deleted that a release, a run or a person needs.
Exports ``audit.verify``, ``verification.verify``, ``gc.plan``, ``erasure.plan`` and ``references.gather``.
"""
