"""Scores: evaluation of policies, published results, statistics, tables and plots."""
