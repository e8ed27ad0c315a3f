"""Welch's test: are two means, of samples that spread differently, further apart than a margin?

Source: Welch, The Generalization of "Student's" Problem when Several Different Population Variances are Involved
(Biometrika 1947), with the degrees of freedom of Satterthwaite (Biometrics Bulletin 1946).
"""

from __future__ import annotations

import math

from noria.stats import student


def welch_p_value(a_mean: float, a_sd: float, a_n: int, b_mean: float, b_sd: float, b_n: int, margin: float = 0.0) -> float:
    """One-sided p-value of "mean a is at most mean b plus ``margin``": small says that a is larger.

    ``*_sd`` are sample standard deviations (divisor n - 1) of ``*_n`` independent values. Without any spread on either side
    the means are taken as known: 0 when a is larger, 1 when not. Raises ValueError for fewer than two values, a negative
    spread, or numbers that are not finite.
    """
    _check((a_mean, a_sd, b_mean, b_sd, margin), (a_sd, b_sd), (a_n, b_n))
    excess = a_mean - b_mean - margin
    error_a, error_b = a_sd**2 / a_n, b_sd**2 / b_n
    if error_a + error_b == 0:
        return 0.0 if excess > 0 else 1.0
    # Shares of the whole, not squares of the parts: these neither overflow nor vanish for very large or small spreads.
    of_a, of_b = error_a / (error_a + error_b), error_b / (error_a + error_b)
    freedom = 1 / (of_a**2 / (a_n - 1) + of_b**2 / (b_n - 1))
    return student.survival(excess / math.sqrt(error_a + error_b), freedom)


def _check(numbers: tuple[float, ...], spreads: tuple[float, float], sizes: tuple[int, int]) -> None:
    if not all(map(math.isfinite, numbers)):
        raise ValueError("means, standard deviations and the margin must be finite numbers")
    if min(spreads) < 0:
        raise ValueError(f"a standard deviation is negative: {min(spreads)}")
    if min(sizes) < 2:
        raise ValueError(f"Welch's test needs two values on each side; one side has {min(sizes)}")
