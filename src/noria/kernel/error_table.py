"""The one table from errors to what a program goes by: a command's exit code, a server's HTTP status and code.

The command line, the model server's protocols, the control API and docs/errors.md read it. A class without a row has that of its
nearest ancestor.
"""

from __future__ import annotations

import msgspec

from noria.kernel import errors
from noria.kernel.errors import NoriaError


class ErrorRow(msgspec.Struct, frozen=True):
    exit_code: int  # 1 the verdict is no, 2 called wrongly, 4 infrastructure
    status: int  # HTTP
    code: str  # in the model server's own protocol
    v2_status: int | None = None  # where the Open Inference Protocol asks for another


ERRORS: dict[type[NoriaError], ErrorRow] = {
    errors.NoriaError: ErrorRow(4, 500, "internal"),
    errors.UsageError: ErrorRow(2, 400, "usage"),
    errors.ConfigError: ErrorRow(2, 409, "config"),
    errors.DataError: ErrorRow(1, 409, "data"),
    errors.StepError: ErrorRow(1, 500, "internal"),
    errors.RefusedError: ErrorRow(1, 409, "refused"),
    errors.NotFoundError: ErrorRow(2, 404, "not_found"),
    errors.AmbiguousError: ErrorRow(2, 404, "not_found"),
    errors.StoppedError: ErrorRow(4, 500, "internal"),
    errors.StoreError: ErrorRow(4, 503, "not_recorded"),
    errors.CorruptBlobError: ErrorRow(4, 503, "not_recorded"),
    errors.LeaseLostError: ErrorRow(4, 503, "not_recorded"),
    errors.DiskFullError: ErrorRow(4, 507, "not_recorded"),
    errors.ServingError: ErrorRow(4, 503, "not_ready"),
    errors.PortInUseError: ErrorRow(4, 503, "not_ready"),
    errors.NoAnswerError: ErrorRow(4, 503, "no_answer"),
    errors.RequestError: ErrorRow(2, 400, "bad_request"),
    errors.BadBodyError: ErrorRow(2, 400, "bad_body"),
    errors.SignatureError: ErrorRow(2, 422, "signature", v2_status=400),
    errors.UnknownTargetError: ErrorRow(2, 404, "unknown_target"),
    errors.ForbiddenError: ErrorRow(2, 403, "forbidden"),
    errors.NoKeyError: ErrorRow(2, 401, "no_key"),
    errors.TooOftenError: ErrorRow(2, 429, "too_often"),
    errors.SlowBodyError: ErrorRow(2, 408, "slow_body"),
    errors.EncodingError: ErrorRow(2, 415, "encoding"),
    errors.TooLargeError: ErrorRow(2, 413, "too_large"),
}
V2_STATUS = {row.status: row.v2_status for row in ERRORS.values() if row.v2_status is not None}


def row_of(kind: type[NoriaError]) -> ErrorRow:
    """The row of an error's class, or of its nearest ancestor."""
    return next(ERRORS[known] for known in kind.__mro__ if known in ERRORS)
