"""What clients gain where each group of alike ones goes on apart, by sample and by width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.scale import Scale
from hasa_opt.forecast.gains import Gain

__all__ = ["Apart"]


@dataclass(frozen=True, eq=False)
class Apart:
    """What clients reach in a group that went on apart, minus what they reach with all together.

    Attributes
    ----------
    difference : (n_clients, n_widths) floats
        Of the metric, on the same held-back samples after as many rounds, at each width of a menu.
    covariance : (n_clients, n_widths, n_widths) floats
        Its noise.
    degrees : float
        Degrees of freedom of the noise.
    """

    difference: FloatArray
    covariance: FloatArray
    degrees: float

    def gain(self, allocation: FloatArray, confidence: float, scale: Scale) -> Gain:
        """The gain in the client mean at the widths of an allocation.

        Parameters
        ----------
        allocation : (n_clients, n_widths) floats
            Weights by which each client's row is read.
        confidence : float in (0, 1)
        scale : Scale
            The metric.
        """
        weights = allocation / len(allocation)
        value = float((weights * scale.worth(self.difference)).sum())
        variance = float(np.einsum("ik,ikl,il->", weights, self.covariance, weights))
        return Gain.measured(value, scale.factor**2 * variance, self.degrees, confidence, scale)
