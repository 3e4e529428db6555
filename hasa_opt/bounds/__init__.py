"""Bounds and prices, and what is made of them: proofs, repairs, second opinions.

One budget: :mod:`~hasa_opt.bounds.relaxation`. Nested budgets: :mod:`~hasa_opt.bounds.site_tree`.
Any limits: :mod:`~hasa_opt.bounds.dual`, mended by :mod:`~hasa_opt.bounds.repair`. Robust budgets:
:mod:`~hasa_opt.bounds.thresholds`. The 0-1 model that general solvers take is
:mod:`~hasa_opt.bounds.linear`.
"""
