"""Documents become chunks, chunks become vectors and postings, and a question becomes hits."""
