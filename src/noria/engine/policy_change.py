"""The policy in force is the champion's: it judges a commit that changes policy until a person approves the change."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from noria import config
from noria.config import Project
from noria.config.loading import FILE
from noria.delivery.context import DeliveryContext
from noria.kernel import names
from noria.kernel.errors import NoriaError
from noria.kernel.policy import PolicyChanges
from noria.kernel.verdict import Outcome, Reason
from noria.releases import judge_policy as judge
from noria.releases.policy_store import PolicyApproval, PolicyStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore


class PolicyChange(msgspec.Struct, frozen=True):
    """What a commit changes of the champion's policy."""

    since: str  # v8: the release whose policy is in force
    text: str  # gates: roc_auc >= 0.60 became roc_auc >= 0.50
    before: str  # digest of either policy
    after: str
    in_force: Project
    approval: PolicyApproval | None = None

    @property
    def waits(self) -> bool:
        """Whether a person has to approve it, and nobody has."""
        return self.in_force.policy_changes is PolicyChanges.APPROVE and self.approval is None

    @property
    def reason(self) -> Reason:
        """For the verdict, whatever came of the change."""
        if self.waits:
            text = f"policy: {self.text}; until a person approves that, the policy of {self.since} judges, too"
            return Reason("gate.policy", text, Outcome.PASS, remedy="`noria policy approve --why REASON` approves the change")
        by = f", approved by {self.approval.actor}: {self.approval.why}" if self.approval is not None else ""
        return Reason("gate.policy", f"policy changed since {self.since}: {self.text}{by}")

    def judging(self, project: Project) -> Project:
        """The project with the gates and behaviours that judge it: those in force, and those that the commit adds."""
        if not self.waits:
            return project
        known = {gate.text for gate in self.in_force.gates}
        gates = (*self.in_force.gates, *(gate for gate in project.gates if gate.text not in known))
        named = {one.name for one in self.in_force.checks.behaviours}
        added = (one for one in project.checks.behaviours if one.name not in named)
        checks = replace(project.checks, behaviours=(*self.in_force.checks.behaviours, *added))
        model, before = project.model, self.in_force.model
        if model is not None and before is not None:
            model = replace(model, holdout=replace(model.holdout, budget=before.holdout.budget))
        return replace(project, gates=gates, checks=checks, not_enough_data=self.in_force.not_enough_data, model=model)


def policy_change(context: DeliveryContext, project: Project) -> PolicyChange | None:
    """Returns what ``project`` changes of the policy in force; None where nothing serves, or nothing differs."""
    champion = _champion(context)
    if champion is None:
        return None
    code = context.bundle(champion.digest) / "code"
    if not (code / FILE).is_file():
        return None  # imported: it was sealed without a project
    try:
        in_force = config.load(code)
    except NoriaError as error:
        context.progress(f"the policy of {champion.version} cannot be read: {error.message}")
        return None
    old, new = policy_facts(in_force), policy_facts(project)
    found = judge.differences(old, new)
    if not found:
        return None
    before, after = _digest(old), _digest(new)
    approval = PolicyStore.of(context).find(before, after)
    return PolicyChange(champion.version, judge.sentence(found), before, after, in_force, approval)


def policy_facts(project: Project) -> dict[str, Any]:
    """What a reviewer of policy reads, as plain values."""
    contracts = {name: source.contract for name, source in project.data.items() if source.contract is not None}
    behaviours = {one.name: msgspec.to_builtins(one) for one in project.checks.behaviours}
    return {
        **({"behaviours": behaviours} if behaviours else {}),  # named where there are some: earlier approvals stay valid
        "gates": [gate.text for gate in project.gates],
        "not_enough_data": str(project.not_enough_data),
        "policy_changes": str(project.policy_changes),
        "holdout.budget": project.model.holdout.budget if project.model is not None else None,
        "environments": {name: msgspec.to_builtins(one) for name, one in project.environments.items()},
        "contracts": msgspec.to_builtins(contracts),
    }


def _champion(context: DeliveryContext) -> Release | None:
    """The newest release that serves any environment: a commit that renames environments is judged, too."""
    routes = [route for route in RouteStore.of(context).all() if route.project == context.name]
    newest = max((route.champion_version for route in routes), key=names.version_number, default=None)
    return ReleaseStore.of(context).get(newest) if newest is not None else None


def _digest(facts: dict[str, Any]) -> str:
    return names.digest_bytes(msgspec.json.encode(facts, order="sorted"))
