"""The context of delivery and of the rooms above it: the stores, and the server that releases go to."""

from __future__ import annotations

from noria.delivery.driver import Driver
from noria.pipeline.context import PipelineContext
from noria.serving.client import Server


class DeliveryContext(PipelineContext, frozen=True, kw_only=True):
    """The resources of one project's delivery line."""

    server: Server
    driver: Driver  # the same server, as a rollout sees it
