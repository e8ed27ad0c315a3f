"""An action of a person: its fields, who may perform it, how its input is read and how it is performed."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from noria.kernel.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from noria.delivery.context import DeliveryContext

Value = str | float | bool | None


class FieldKind(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"


class Who(StrEnum):
    ANYBODY = "anybody"  # who holds the control API's token, or may write the state folder; a project's step too
    PERSON = "person"  # the same, but no step: code of a project does not let its own release out


class ActionField(msgspec.Struct, frozen=True):
    """A field of an action: an option or argument of its command, and a key of its request body."""

    name: str
    help: str
    kind: FieldKind = FieldKind.TEXT
    required: bool = False
    default: Value = None
    positional: bool = False  # an argument of the command; else an option
    short: str = ""  # -e
    metavar: str | None = None

    def read(self, given: object, verb: str) -> Value:
        """Converts the given value to its type; from a command line, a number is still text. Raises UsageError."""
        if given is None and self.default is None and not self.required:
            return None
        if self.kind is FieldKind.NUMBER:
            if isinstance(given, str | int | float) and not isinstance(given, bool):
                try:
                    return float(given)
                except (ValueError, OverflowError):
                    pass
        elif isinstance(given, bool if self.kind is FieldKind.FLAG else str):
            return given
        raise UsageError(f"`{self.name}` of `{verb}` must be {_KINDS[self.kind]}, got {str(given)[:40]!r}", hint=self.help)


_KINDS = {FieldKind.TEXT: "text", FieldKind.NUMBER: "a number", FieldKind.FLAG: "true or false"}


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person can do, by command or API call.

    Everything that offers, parses, documents or records it reads this entry.
    """

    verb: str  # POST /api/VERB
    command: tuple[str, ...]  # rollout, hold
    line: str  # one line of help
    about: str  # the whole help
    examples: tuple[str, ...]
    answers: tuple[str, ...]  # the keys of what it gives
    event: str  # the kind of the audit event that it records
    function: str  # module:name; called as (context, actor=..., **fields)
    fields: tuple[ActionField, ...] = ()
    codes: str = "0"  # exit codes beside 2 and 4, in words
    who: Who = Who.ANYBODY
    while_broken: bool = False  # allowed even after the audit log was changed: rollback, hold, abort, withdraw
    starts_turn: bool = False  # a running daemon checks at once for a turn to start
    timed: bool = False  # its command says how long it took

    def read(self, given: Mapping[str, object]) -> dict[str, Value]:
        """Converts all fields to their types. Raises UsageError with the same message for a command and an API call."""
        known = {field.name for field in self.fields}
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            takes = ", ".join(field.name for field in self.fields) or "nothing"
            raise UsageError(f"`{self.verb}` does not know {str(unknown)[:40]!r}", hint=f"It takes: {takes}.")
        missing = next((field for field in self.fields if field.required and field.name not in given), None)
        if missing is not None:
            raise self.missing(missing)
        return {f.name: f.read(given[f.name], self.verb) if f.name in given else f.default for f in self.fields}

    def missing(self, field: ActionField) -> UsageError:
        """The error for a required field that was left out."""
        return UsageError(f"`{self.verb}` needs `{field.name}`", hint=field.help)

    def command_line(self, **said: str) -> str:
        """``noria rollout hold -e production``: the command that a person may copy."""
        words = ["noria", *self.command]
        for field in self.fields:
            if field.name in said:
                words += ([] if field.positional else [field.short or f"--{field.name}"]) + [shlex.quote(said[field.name])]
        return " ".join(words)

    def perform(self, context: DeliveryContext, actor: str, values: Mapping[str, Value]) -> dict[str, Any]:
        """Performs the action; its events carry the actor.

        Raises RefusedError when the actor may not, and whatever its function raises.
        """
        if self.who is Who.PERSON:
            demand_person(actor, *(["decide on data in quarantine"] if self.command[0] == "data" else []))
        module, _, name = self.function.partition(":")
        does: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
        return does(replace(context, actor=actor), actor=actor, **values)


def demand_person(actor: str, what: str = "approve or promote a release") -> None:
    """Raises RefusedError for a step: a project's code may not release itself, nor its data."""
    if actor.startswith("step:"):
        raise RefusedError(f"a step cannot {what}", hint="A person must do it, outside of any turn.")
