"""Makes the command of each action from its entry in the action table."""

from __future__ import annotations

from typing import Any

import click

from noria.cli.context import Home, pass_home
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import emit, json_option
from noria.cli.versions import at_work
from noria.engine.action import Action, ActionField, FieldKind
from noria.engine.action_table import below


class ActionCommand(click.Command):
    """The command of an action: a missing argument is named in the words of the control API."""

    action: Action

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            missing = [field for field in self.action.fields if error.param is not None and field.name == error.param.name]
            if not missing:
                raise
            raise self.action.missing(missing[0]) from None


class ActionGroup(LazyGroup):
    """A group whose commands include the actions of its name."""

    def lines(self) -> dict[str, str]:
        return dict(sorted({**super().lines(), **{name: one.line for name, one in below(self.name or "").items()}}.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        action = below(self.name or "").get(cmd_name)
        return command_of(action) if action is not None else super().get_command(ctx, cmd_name)


def command_of(action: Action) -> click.Command:
    """Builds the command that performs the action."""

    @json_option
    @pass_home
    def act(home: Home, /, as_json: bool, **given: Any) -> None:
        values = action.read({name: value for name, value in given.items() if value is not None})
        with at_work(home, quiet=True) as context:
            done = action.perform(context, context.actor, values)
        emit(as_json, done, lambda: f"{done['text']} ({done['ms']} ms)" if action.timed else str(done["text"]))

    callback = act
    for field in reversed(action.fields):
        callback = _parameter(field)(callback)
    command = click.command(action.command[-1], cls=ActionCommand, help=_help(action), short_help=action.line)(callback)
    command.action = action
    return command


def _parameter(field: ActionField) -> Any:
    if field.positional:
        return click.argument(field.name, required=field.required, metavar=field.metavar)
    names = [f"--{field.name}", *filter(None, [field.short])]
    if field.kind is FieldKind.FLAG:
        return click.option(*names, is_flag=True, default=None, help=field.help)
    metavar = field.metavar or ("NUMBER" if field.kind is FieldKind.NUMBER else None)
    return click.option(*names, required=field.required, metavar=metavar, help=field.help)


def _help(action: Action) -> str:
    examples = "\n".join(f"  {example}" for example in action.examples)
    return f"{action.about}\n\n\b\nExample:\n{examples}\n\nJSON: {', '.join(action.answers)}."
