"""Sizes, latency and energy of exported artefacts, a machine's roofline, and why they are what they are."""
