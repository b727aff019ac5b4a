"""Intel evidence: SGX quotes of version 3, their certificates, revocation lists, TCB info and QE identity."""
