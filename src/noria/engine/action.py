"""What an action of a person is: what has to be said with it, who may do it, how it is read and how it is done."""

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
    """One thing that is said with an action: an option or argument of its command, a key of its body."""

    name: str
    help: str
    kind: FieldKind = FieldKind.TEXT
    required: bool = False
    default: Value = None
    positional: bool = False  # an argument of the command; else an option
    short: str = ""  # -e
    metavar: str | None = None

    def read(self, given: object, verb: str) -> Value:
        """What was given, in its type; from a command line a number is text still. Raises UsageError."""
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
    """Something that a person does, by command and by call. All who offer, read, describe or record it go by this one entry."""

    verb: str  # POST /api/VERB
    command: tuple[str, ...]  # rollout, hold
    line: str  # one line of help
    about: str  # the whole help
    examples: tuple[str, ...]
    answers: tuple[str, ...]  # the keys of what it gives
    event: str  # the kind of the audit event that it leaves
    function: str  # module:name; called as (context, actor=..., **fields)
    fields: tuple[ActionField, ...] = ()
    codes: str = "0"  # exit codes beside 2 and 4, in words
    who: Who = Who.ANYBODY
    while_broken: bool = False  # done though the audit log was changed: what brings back, holds or bars
    starts_turn: bool = False  # a running daemon looks for a turn to begin at once
    timed: bool = False  # its command says how long it took

    def read(self, given: Mapping[str, object]) -> dict[str, Value]:
        """What was said, whole and in its types. Raises UsageError, in the same words for a command and for a call."""
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
        """What is said where a field that it needs was left out."""
        return UsageError(f"`{self.verb}` needs `{field.name}`", hint=field.help)

    def command_line(self, **said: str) -> str:
        """``noria rollout hold -e production``: the command that a person may copy."""
        words = ["noria", *self.command]
        for field in self.fields:
            if field.name in said:
                words += ([] if field.positional else [field.short or f"--{field.name}"]) + [shlex.quote(said[field.name])]
        return " ".join(words)

    def perform(self, context: DeliveryContext, actor: str, values: Mapping[str, Value]) -> dict[str, Any]:
        """Do it; its events carry the actor. Raises RefusedError where it is not this one's to do, and as its function does."""
        if self.who is Who.PERSON:
            demand_person(actor)
        module, _, name = self.function.partition(":")
        does: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
        return does(replace(context, actor=actor), actor=actor, **values)


def demand_person(actor: str) -> None:
    """Raises RefusedError for a step: code of a project does not let its own release out."""
    if actor.startswith("step:"):
        raise RefusedError("a step cannot approve or promote a release", hint="A person says so, outside of any turn.")
