"""Recipes: one runnable file a method."""
