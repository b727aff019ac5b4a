"""The enclave's own manifest: what is started, with which files, in which sizes, and how that is measured."""
