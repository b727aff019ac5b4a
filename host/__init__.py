"""The operator's side: an agent that relays sealed bytes and is trusted with nothing but availability."""
