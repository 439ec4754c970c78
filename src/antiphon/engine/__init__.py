"""The response loop: prepare, decide, emit, run, record."""
