"""The trusted computing base: everything here runs inside the enclave, so it is kept small."""
