"""Supernets made from a user's own module: tracing, labelling, and rebuilding at smaller sizes.

Here belong the rules by which operations of torch pass cuts on. What is done with a supernet
afterwards belongs to :mod:`hasa_opt.models.subnets`, as for any other supernet.
"""

from hasa_opt.models.traced.supernet import Supernet

__all__ = ["Supernet"]
