"""What relying parties run: evidence, policies, the attested session, the key broker and the client."""
