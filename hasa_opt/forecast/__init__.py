"""Forecasts: what an allocation is worth, measured before it is trained.

A probe measures what each client reaches by width, headroom tells what any allocation could gain
from that, a pilot trains what is in question, and a recommendation decides. No full training runs.
"""

from hasa_opt.forecast.piloting import Pilot, pilot
from hasa_opt.forecast.prediction import Headroom, headroom
from hasa_opt.forecast.probing import Probe, probe

__all__ = ["Headroom", "Pilot", "Probe", "headroom", "pilot", "probe"]
