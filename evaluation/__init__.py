"""Demonstrations and measurements of a whole deployment; nothing imports this package."""
