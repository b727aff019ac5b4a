"""Confidential VMs of Azure: a vTPM quote, and the SEV-SNP or TDX evidence that vouches for the vTPM."""
