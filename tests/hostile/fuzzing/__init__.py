"""Damage valid files at random, the same way each time, and open them as a person would."""
