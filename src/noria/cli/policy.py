"""`noria policy`: shows which policy judges, and what the project's folder changes of it; approves the change."""

from __future__ import annotations

import click
import msgspec

from noria import config
from noria.cli.action import ActionGroup
from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, moment, plain, section
from noria.cli.versions import at_work
from noria.engine.policy_change import PolicyChange, policy_change
from noria.releases.policy_store import PolicyApproval, PolicyStore


@click.group(cls=ActionGroup, name="policy", invoke_without_command=True)
@click.pass_context
@json_option
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what noria.yaml and contracts change of the policy in force, which is the champion's; approve the change.

    Policy is gates, contracts, environments and who decides. With `policy_changes: approve` the champion's gates judge beside the
    commit's, and the release waits, until a person approves.

    \b
    Example:  noria policy
              noria policy approve --why "agreed in the review of 12 May"

    JSON keys: change {since, text, waits, approved_by} (null where nothing differs), approvals [{changes, actor, why, at}].
    """
    if ctx.invoked_subcommand is None:
        _show(as_json)


@pass_home
def _show(home: Home, as_json: bool) -> None:
    with at_work(home, quiet=True) as context:
        change = policy_change(context, config.load(context.home))
        approvals = PolicyStore.of(context).list()
    facts = None
    if change is not None:
        by = change.approval.actor if change.approval is not None else None
        facts = {"since": change.since, "text": change.text, "waits": change.waits, "approved_by": by}
    document = {"change": facts, "approvals": [msgspec.to_builtins(one) for one in approvals]}
    emit(as_json, document, lambda: _render(change, approvals))


def _render(change: PolicyChange | None, approvals: list[PolicyApproval]) -> str:
    parts = ["the policy of the project's folder is the one in force"]
    if change is not None:
        parts = [plain(change.reason.text), *filter(None, [change.reason.remedy])]
    if approvals:
        lines = (plain(f"{moment(one.at)}  {one.actor}: {one.changes} ({one.why})") for one in approvals)
        parts.append(section("Approved", "\n".join(lines)))
    return "\n".join(parts)
