"""The attested session and the frames that carry it.  Sans-IO: bytes in, events and bytes out."""
