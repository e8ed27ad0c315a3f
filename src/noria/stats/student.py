"""Student's t with any degrees of freedom; None: so many that it is the normal distribution."""

from __future__ import annotations

from statistics import NormalDist


def quantile(probability: float, freedom: float | None = None) -> float:
    if freedom is None:
        return NormalDist().inv_cdf(probability)
    from scipy.special import stdtrit  # heavy: kept out of start-up

    return float(stdtrit(freedom, probability))


def survival(t: float, freedom: float | None = None) -> float:
    """P(T > t)."""
    if freedom is None:
        return NormalDist().cdf(-t)
    from scipy.special import stdtr  # heavy: kept out of start-up

    return float(stdtr(freedom, -t))
