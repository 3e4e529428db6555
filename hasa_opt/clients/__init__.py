"""Clients as columns: names, samples, counts, caps and sites, and the files that hold them.

No scores and no widths: those are computed from the columns elsewhere.
"""

from hasa_opt.clients.clients import Clients

__all__ = ["Clients"]
