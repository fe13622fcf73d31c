"""Pure plans: from what is wanted and what is observed to what to do next.

Nothing here talks to anything. A plan is a value: the same resource, the same observation and the same time give the
same actions, so a plan can be printed, compared in a test, and computed again after a crash. Randomness (passwords,
keys) never appears in a plan either: it asks for a credential to exist, and the executor makes one where none is.
"""
