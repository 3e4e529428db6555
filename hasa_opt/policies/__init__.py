"""Policies: named ways to choose widths, and how widths become whole units of a supernet.

No torch: a policy sees columns, scores and a budget, and a meter that knows what a width costs.
"""

from hasa_opt.policies.policy import POLICIES, RECOMMENDED, Policy, Setting, find_policy
from hasa_opt.policies.subnets import Subnets

__all__ = ["POLICIES", "RECOMMENDED", "Policy", "Setting", "Subnets", "find_policy"]
