"""The bank's people: everybody acts under a name and a group of their own, by impersonation, and never as admin.

The groups are those that examples/bank/02-tenants.yaml gives roles to; the platform team's group is given to the
chart, as an installation would.
"""

from dataclasses import dataclass
from typing import Final

PLATFORM_GROUP: Final = "bank-platform"


@dataclass(frozen=True, slots=True)
class Member:
    """A person as the identity provider names them."""

    user: str
    group: str


PLATFORM_ADMIN: Final = Member("petra@bank.example", PLATFORM_GROUP)
PAYMENTS_LEAD: Final = Member("paolo@bank.example", "payments-leads")
CARD_SCIENTIST: Final = Member("fatima@bank.example", "fraud-science")
RISK_ENGINEER: Final = Member("rita@bank.example", "risk-engineering")
QUANT: Final = Member("quentin@bank.example", "quant-research")
BUILD_ENGINEER: Final = Member("carl@bank.example", "build-engineers")
