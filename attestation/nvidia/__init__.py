"""NVIDIA GPUs and NVSwitches: SPDM measurement reports, and the reference values that NVIDIA signs."""
