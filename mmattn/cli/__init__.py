"""What the command lines share: options, errors as sentences, run logs."""
