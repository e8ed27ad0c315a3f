"""The error tree. Messages are for people: what is wrong, where, and what to do next.

NoriaError
├── UsageError              the command was used wrongly
├── ConfigError             noria.yaml, a contract or params.yaml is invalid
├── DataError               a data file cannot be read or violates its contract
├── StepError               the project's own code failed, hung, or outgrew its limits
├── RefusedError            policy says no (barred release, dirty tree, missing approval)
├── NotFoundError           a release, run, dataset or environment that does not exist
│   └── AmbiguousError      the given name matches several things
├── StoppedError            told to stop in the middle of a turn; the next start reruns it
├── StoreError              ledger or blob store
│   ├── CorruptBlobError    a blob's bytes do not match its digest
│   ├── LeaseLostError      another engine took the job over; this one must stop
│   └── DiskFullError       no space left; nothing was half written
├── ServingError            the model server cannot start, load or be reached
│   └── PortInUseError      the address is taken
├── NoAnswerError           no release could answer a request
└── RequestError            a client's request is wrong
    ├── BadBodyError        not JSON, not an object, too deep
    ├── SignatureError      columns are missing, unknown, or of the wrong type
    ├── UnknownTargetError  no such path, model or prediction id
    ├── ForbiddenError      token, Host or Origin check failed
    ├── NoKeyError          the request carries no API key, or one that is not known
    ├── TooOftenError       more requests than the rate allows
    ├── SlowBodyError       the body did not arrive in time
    ├── EncodingError       the body's Content-Encoding is not supported
    └── TooLargeError       body or row limit exceeded

Exit codes and HTTP statuses are in `kernel.error_table`.
"""

from __future__ import annotations


class NoriaError(Exception):
    """Base of every error that Noria raises on purpose.

    ``where`` is a place a person can open (``noria.yaml:12:3``, a path, a step's log);
    ``hint`` says what to do next.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.message}{advice}"


class UsageError(NoriaError):
    """The command was used wrongly."""


class ConfigError(NoriaError):
    """A project file is invalid; ``where`` is file:line:column."""


class DataError(NoriaError):
    """A data file cannot be read or violates its contract."""


class StepError(NoriaError):
    """The project's own code failed, hung, or outgrew its limits."""


class RefusedError(NoriaError):
    """Policy says no."""


class NotFoundError(NoriaError):
    """The thing that was named does not exist."""


class AmbiguousError(NotFoundError):
    """The given name matches several things."""


class StoppedError(NoriaError):
    """This engine was told to stop in the middle of a turn; the next engine reruns it."""


class StoreError(NoriaError):
    """The ledger or the blob store failed."""


class CorruptBlobError(StoreError):
    """A blob's bytes do not match its digest."""


class LeaseLostError(StoreError):
    """Another engine took the job over; this one must stop."""


class DiskFullError(StoreError):
    """No space is left; nothing was half written."""


class ServingError(NoriaError):
    """The model server cannot start, load a release, or be reached."""


class PortInUseError(ServingError):
    """The address is taken by another process."""


class NoAnswerError(NoriaError):
    """The champion failed, and it has no fallback."""


class RequestError(NoriaError):
    """A client's request is wrong."""


class BadBodyError(RequestError):
    """The body is not what the path takes."""


class SignatureError(RequestError):
    """Columns are missing, unknown, or of the wrong type."""


class UnknownTargetError(RequestError):
    """There is no such path, model, release or prediction."""


class ForbiddenError(RequestError):
    """The token, Host or Origin check failed."""


class NoKeyError(RequestError):
    """The request carries no API key, or one that is not known."""


class TooOftenError(RequestError):
    """More requests than the rate allows; ``wait_s`` says when to try again."""

    def __init__(self, message: str, *, wait_s: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait_s = wait_s


class SlowBodyError(RequestError):
    """The body did not arrive in time."""


class EncodingError(RequestError):
    """The body's Content-Encoding is not supported."""


class TooLargeError(RequestError):
    """The body or the number of rows exceeds the limit."""
