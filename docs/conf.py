"""Sphinx: ``make docs`` writes docs/_build/html, warnings are errors.

Formulas become MathML at build time, so that the pages need no network and no script for them.
"""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import hasa_opt

project = "hasa_opt"
author = "The hasa_opt developers"
release = hasa_opt.__version__
version = release
copyright = author

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "hasa_opt"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"**": []}
html_math_renderer = "mathml"


def inline_math(page: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    page.body.append(latex2mathml.tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def block_math(page: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own."""
    page.body.append(page.starttag(node, "div", CLASS="math"))
    page.body.append(latex2mathml.tex2mathml(node.astext(), as_block=True))
    page.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
