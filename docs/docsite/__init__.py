"""Lays the Markdown of the project out as the sources of its site."""
