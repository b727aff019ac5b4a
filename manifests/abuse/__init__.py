"""Abuse defence: detectors of probing and of model extraction, shared by the owner's calibration and the enclave."""
