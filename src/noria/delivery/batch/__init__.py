"""Batch scoring: a release's answers for the rows of whole files, in bounded memory; an interrupted job goes on later."""
