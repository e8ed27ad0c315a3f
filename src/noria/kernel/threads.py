"""How many threads the numeric libraries of a process take."""

from __future__ import annotations

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",  # of a library that asks OpenMP for more by itself, as LightGBM's estimators do
    "LOKY_MAX_CPU_COUNT",  # what joblib, and LightGBM by it, takes for the number of cores
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
