"""The deployment guard: it tells whether this machine is fit to carry an enclave."""
