"""Evaluator, metrics, intervals, counted costs."""
