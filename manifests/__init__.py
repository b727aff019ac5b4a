"""What is described and sealed: model manifests, sealed models, enclave manifests.  Imports nothing of ours."""
