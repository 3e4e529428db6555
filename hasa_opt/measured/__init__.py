"""What widths are worth, measured: a warm-up is judged, its noisy curves become evidence.

:mod:`hasa_opt.probe`, :mod:`hasa_opt.headroom` and :mod:`hasa_opt.recommend` are made of these.
"""
