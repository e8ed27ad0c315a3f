"""Compilers by registration: the first that knows a model's framework turns it into ONNX."""

from __future__ import annotations

from typing import Any, Protocol

import polars as pl

from noria.kernel.errors import NoriaError
from noria.models.frameworks import catboost, graphs, sklearn, torch
from noria.models.signature import Signature


class Framework(Protocol):
    """One framework's way to ONNX."""

    name: str

    def matches(self, model: object) -> bool:
        """Whether ``model`` is of this framework."""

    def compile(self, model: Any, signature: Signature, sample: pl.DataFrame) -> bytes:
        """ONNX with one input per column, [n, 1], named as in the signature; text as strings, all else as float32.

        Where nothing is text it may take one matrix instead: ``MATRIX``, float32 [n, k], in the signature's order.

        Deterministic: equal models give equal bytes. Raises anything when it does not convert.
        """


_frameworks: list[Framework] = [
    graphs.BareFramework(),
    torch.TorchFramework(),
    catboost.CatBoostFramework(),
    sklearn.SklearnFramework(),
]


def register(framework: Framework) -> None:
    """Add a framework; the newest is asked first."""
    _frameworks.insert(0, framework)


def to_onnx(model: object, signature: Signature, sample: pl.DataFrame) -> bytes:
    """Compile ``model``; ``sample`` is a few rows of its inputs. Raises NoriaError with the reason when it does not convert."""
    for framework in _frameworks:
        if framework.matches(model):
            try:
                return framework.compile(model, signature, sample)
            except NoriaError as error:
                raise NoriaError(f"does not convert to ONNX: {error.message}") from error
            except Exception as error:  # converters raise anything; the caller keeps the original then
                text = (str(error).strip().splitlines() or [""])[0][:300]
                raise NoriaError(f"does not convert to ONNX: {type(error).__name__}: {text}") from error
    library = getattr(model, "library", "") or type(model).__module__.partition(".")[0]
    raise NoriaError(f"no compiler knows {library} models ({type(model).__name__})")
