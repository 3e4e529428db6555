"""Backends: one per file, each only translates a problem; our own solver lies in ``exact``.

:mod:`~hasa_opt.solvers.registry` lists them and imports each on first use, ``base`` is what a
backend is given and gives back, ``bounds`` holds the prices and bounds that ours and the verdict
share. What is the same for all backends belongs in :mod:`hasa_opt.solving`.
"""
