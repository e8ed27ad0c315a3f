"""The policy in force is the champion's: it judges a commit that changes policy until a person approves the change."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from noria import config
from noria.config import Project
from noria.config.loading import FILE
from noria.kernel import names
from noria.kernel.errors import ConfigError, NoriaError
from noria.kernel.policy import PolicyChanges
from noria.kernel.verdict import Outcome, Reason
from noria.pipeline.context import StartedRun
from noria.releases import judge_policy as judge
from noria.releases.policy_store import PolicyApproval, PolicyStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore
from noria.storage.context import StoreContext, silent


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


def contracts_in_force(context: StoreContext, project: Project) -> Project:
    """The project with the contracts that judge what arrives: those in force, where it changes them and nobody approved that.

    What a looser contract lets in stays: values that are no longer hashed, rows that are no longer refused. So it is the
    one part of policy that cannot wait for the release. A dataset of another name with the same source is the same one.
    """
    champion = _champion(context)
    if champion is None or _as_sealed(context, champion, project):
        return project
    change = policy_change(replace(context, progress=silent), project)
    if change is None or not change.waits:
        return project
    before, data = change.in_force.data, dict(project.data)
    for name, source in project.data.items():
        same = (one for one in before.values() if (one.source, one.sql) == (source.source, source.sql))
        known = before.get(name) or next(same, None)
        if known is not None and known.contract not in (None, source.contract):
            data[name] = replace(source, contract=known.contract, contract_file=known.contract_file)
    if data == project.data:
        return project
    _demand_kept_private(replace(project, data=data), change)
    return replace(project, data=data)


def _demand_kept_private(project: Project, change: PolicyChange) -> None:
    """Raises ConfigError where a commit uses values that the contracts in force hash or drop, or a source they cannot treat."""
    hint = "`noria policy approve --why REASON` approves the commit's contracts; before that nothing of it is built."
    by = f"the contract in force ({change.since}) hashes or drops"
    inputs = project.model.inputs if project.model is not None else ()
    for source in project.data.values():
        rule = source.contract.personal_data if source.contract is not None else None
        if rule is None or not rule.treated:
            continue
        if source.pin == "version" or source.sql is not None or source.source.startswith("log:"):
            text = f"{source.name}: {by} columns, which cannot be done with this source"
            raise ConfigError(text, where=f"noria.yaml: data.{source.name}", hint=hint)
        for name in inputs:
            if name in rule.treated:
                raise ConfigError(f"{name} is an input, and {by} it", where="noria.yaml: model.inputs", hint=hint)


def _as_sealed(context: StoreContext, champion: Release, project: Project) -> bool:
    """Whether the champion was sealed with this very noria.yaml and its contracts: asked several times a second."""
    code = context.bundle(champion.digest) / "code"
    try:
        return names.digest_bytes((code / FILE).read_bytes()) == project.digest and all(
            names.digest_bytes((code / source.contract_file).read_bytes()) == source.contract.digest
            for source in project.data.values()
            if source.contract is not None and source.contract_file is not None
        )
    except OSError:
        return False


def contract_words(run: StartedRun) -> list[str]:
    """By whose contracts a turn judged, where they are not its commit's."""
    if run.proposed is None:
        return []
    return ["the contracts in force judged, which this commit changes: `noria policy approve --why REASON` approves that"]


def policy_change(context: StoreContext, project: Project) -> PolicyChange | None:
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


def _champion(context: StoreContext) -> Release | None:
    """The newest release that serves any environment: a commit that renames environments is judged, too."""
    routes = [route for route in RouteStore.of(context).all() if route.project == context.name]
    newest = max((route.champion_version for route in routes), key=names.version_number, default=None)
    return ReleaseStore.of(context).get(newest) if newest is not None else None


def _digest(facts: dict[str, Any]) -> str:
    return names.digest_bytes(msgspec.json.encode(facts, order="sorted"))
