"""The ground floor: what every room may use. It imports torch and mmengine at most."""
