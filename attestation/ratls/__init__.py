"""RA-TLS certificates: evidence inside a certificate, bound to its key."""
