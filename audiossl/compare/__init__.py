"""Methods, front ends and backbones side by side on one data set, under one budget."""
