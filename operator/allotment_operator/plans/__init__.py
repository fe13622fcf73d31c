"""Pure plans: from what is wanted and what is observed to what to do next."""
