"""Shipped test doubles and contract suites, for this project and for whoever extends it."""
