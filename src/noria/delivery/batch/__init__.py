"""Batch scoring: a release's answers for the rows of whole files, in bounded memory; an interrupted job can be continued."""
