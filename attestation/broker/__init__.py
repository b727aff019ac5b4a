"""The key broker: holds a model owner's wrapped keys and releases them to enclaves that prove what they are."""
