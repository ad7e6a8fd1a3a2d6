"""Data sets registered for the runner: parts and variants of those the frameworks have."""
