"""Policies: named ways to choose widths, and how widths become whole units of a supernet.

No torch: a policy sees columns, scores and a budget, and a meter that knows what a width costs.
"""

from hasa_opt.policies.catalogue import POLICIES, RECOMMENDED, read_policy
from hasa_opt.policies.policy import OPTIONS, Policy
from hasa_opt.policies.setting import MENU, Setting
from hasa_opt.policies.subnets import Subnets

__all__ = [
    "MENU",
    "OPTIONS",
    "POLICIES",
    "RECOMMENDED",
    "Policy",
    "Setting",
    "Subnets",
    "read_policy",
]
