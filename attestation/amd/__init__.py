"""AMD evidence: SEV-SNP attestation reports of versions 2 to 5, their endorsement keys, chains and revocation lists."""
