"""Where pods go: rows of scores and witnesses, eligibility, gangs, rooms held and reserved."""
