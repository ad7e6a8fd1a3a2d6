"""Studies: methods x seeds -> runs -> statistics -> report."""
