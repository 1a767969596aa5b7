"""Slash commands: what they are called, how they are parsed and completed, and what they do."""
