"""Runs: training into a folder that shows progress, checkpoints, and goes on where it stopped."""
