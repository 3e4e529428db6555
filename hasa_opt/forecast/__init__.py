"""Forecast: what an allocation is worth, before a full training run.

A probe measures what each client gains from width on training data, and the headroom follows.
"""

from hasa_opt.forecast.prediction import Headroom, headroom
from hasa_opt.forecast.probing import Probe, probe

__all__ = ["Headroom", "Probe", "headroom", "probe"]
