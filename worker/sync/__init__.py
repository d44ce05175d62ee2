"""The use cases: the loops, which have met all the parts."""
