"""Probes: what frozen features are worth."""
