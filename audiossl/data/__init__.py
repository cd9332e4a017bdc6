"""Data sets: audio files and their labels behind one small interface."""
