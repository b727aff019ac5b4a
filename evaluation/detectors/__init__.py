"""How good are the abuse detectors?  Benign sessions and attacks replayed through them, and tables of the outcome."""
