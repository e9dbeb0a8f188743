"""Environments: bodies, tasks and setups."""
