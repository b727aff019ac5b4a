"""Examples that train a small model on what is at hand, seal it, and serve it."""
