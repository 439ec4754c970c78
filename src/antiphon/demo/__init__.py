"""`antiphon demo`: the main job, seen in half a minute, offline."""
