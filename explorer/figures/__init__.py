"""Plotly figures: pure functions from values to Figure. Colours keep one meaning everywhere."""
