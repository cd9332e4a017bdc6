"""Pages that show what a learner sees: front ends side by side, and the views that are cut from clips."""
