"""The web, as tools see it: search providers behind one seam, and pages as text."""
