"""What the tools share: data checks, checkpoint reports, the command line.

Nothing is imported here, so that each tool loads only the part it needs.
"""
