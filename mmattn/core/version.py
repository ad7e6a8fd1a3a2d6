"""The version, for the face and for every report; imports nothing."""

__version__ = '0.1.0'
