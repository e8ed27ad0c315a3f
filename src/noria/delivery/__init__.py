"""Delivery brings sealed releases to traffic and takes them away again: rollouts, guards and their evidence, promotion, rollback,
batches.

Promises that an environment's route changes in one transaction with its event, and that evidence may be looked at at any
time.
Exports ``rollout_controller.RolloutController``, ``rollout_record`` (a rollout and its evidence), ``rollout``, ``champion``,
``driver`` (what a serving engine must be able to do), ``standalone`` and ``batch``.
"""
