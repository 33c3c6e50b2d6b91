"""Evaluator, metrics, intervals, counted costs."""

from ..core.callable_module import make_callable

make_callable(__name__, "explorer.evaluate.evaluator:evaluate")
