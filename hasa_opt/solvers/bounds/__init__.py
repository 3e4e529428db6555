"""Bounds and prices, and what is made of them: proofs, repairs, second opinions.

One budget: ``relaxation``. Nested budgets: ``site_tree``. Any limits: ``dual``, mended by
``repair``. Robust budgets: ``audit``. The 0-1 model that general solvers take is
:mod:`hasa_opt.problem.linear`.
"""
