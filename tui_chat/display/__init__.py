"""How figures, bytes and curves look to people, in text alone: for the screen and for the command line."""
