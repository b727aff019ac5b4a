"""A hostile host: everything that the machine between client and enclave can do to their traffic."""
