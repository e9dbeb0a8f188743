"""Policies for the bodies of iMuJoCo, and the experiment of few-shot imitation with them."""

from agents.imujoco.bundle import (
    bundled_bodies,
    export_policies,
    load_bundled_policy,
    unpack_policies,
)
from agents.imujoco.published import load_published_sac
from agents.imujoco.queue import PolicyQueue, PolicyResult, read_results, select_bodies

__all__ = [
    "PolicyQueue",
    "PolicyResult",
    "bundled_bodies",
    "export_policies",
    "load_bundled_policy",
    "load_published_sac",
    "read_results",
    "select_bodies",
    "unpack_policies",
]
