"""A simulated SGX platform: it plays the processor and its quoting enclave, and their vendor's certificate authority.

Its quotes and collateral have Intel's formats bit for bit, under a root that is pinned nowhere; each of its
certificates carries a mark that vendors' roots refuse.
"""
