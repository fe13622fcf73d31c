"""The pure core: who is served next, where pods go, who makes room. No I/O, no clock, no randomness.

Begin with `cycle`.
"""
