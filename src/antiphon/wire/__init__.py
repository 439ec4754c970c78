"""The public API's types, once. Pure data: this package imports nothing of ours."""
