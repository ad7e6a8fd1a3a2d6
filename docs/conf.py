"""Settings of Sphinx; docs/build.py lays out the pages and calls it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmattn.core.version import __version__  # noqa: E402  (found on the path above)

project = 'mmattn'
author = copyright = 'the authors of mmattn'
version = release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']

myst_heading_anchors = 4  # links to headings, as on a page of the repository
myst_enable_extensions = ['attrs_inline']

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_default_options = {'exclude-members': 'forward, extra_repr'}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# sections of the docstrings that napoleon does not know
napoleon_custom_sections = [
    ('Paper', 'notes_style'),
    ('Differs from the paper', 'notes_style'),
    ('Limits', 'notes_style'),
    ('Shape', 'notes_style'),
]

html_theme = 'furo'
html_title = 'mmattn'
html_static_path = [str(Path(__file__).resolve().parent / 'static')]
html_css_files = ['site.css']
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it asks a server for the pages found
