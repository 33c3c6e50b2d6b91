"""Recovering what compression damaged: recalibration, fine-tuning, and training loops that keep what was pruned."""
