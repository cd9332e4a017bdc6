"""Probes: what frozen features are worth, with settings chosen on validation and the test split read once."""
