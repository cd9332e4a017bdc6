"""The map: a page on which one can see and hear what was learned."""
