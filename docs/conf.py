"""Sphinx's settings; ``make docs`` builds the pages into ``site/``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sb3_dream import __version__

project = "DREAM"
author = "The DREAM contributors"
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax", "myst_parser"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
suppress_warnings = ["autosectionlabel.*", "ref.python"]

html_theme = "furo"
html_title = f"DREAM {release}"
