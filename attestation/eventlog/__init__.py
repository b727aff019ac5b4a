"""Logs of measured boot: what firmware and loaders extended into PCRs and RTMRs, read and replayed."""
