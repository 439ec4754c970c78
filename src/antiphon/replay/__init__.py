"""Record and replay of all outgoing traffic."""
