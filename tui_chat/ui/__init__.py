"""Everything that is seen: the one place, with `themes`, that imports Textual."""
