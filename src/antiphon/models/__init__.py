"""Model hosts and the dialects they speak."""
