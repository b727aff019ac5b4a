"""The sealed model: core, chunks, tail, recipients."""
