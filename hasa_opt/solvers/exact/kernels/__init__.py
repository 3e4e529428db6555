"""Compiled loops of the exact solver: multiplier, core, Pareto lists."""
