"""HTTP only: bytes to wire types, one call, wire types to bytes."""
