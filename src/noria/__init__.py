"""Continuous delivery for machine learning in one package."""

from noria.kernel import former_modules as _former_modules

_former_modules.install()

__version__ = "0.1.0"

__all__ = ["__version__"]
