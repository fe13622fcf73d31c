"""The loop around the plans: read, plan, execute, report; one key at a time, as often as it takes."""
