"""Where code that nobody has read is run: the seam, and the sandbox of the kernel's own means."""
