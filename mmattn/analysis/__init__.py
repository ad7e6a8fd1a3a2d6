"""What a network costs and what its attention does, measured."""
