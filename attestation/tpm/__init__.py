"""TPM 2.0 quotes: structures, verification, checks."""
