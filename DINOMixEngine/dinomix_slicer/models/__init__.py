"""Model folders: listed, installed, described."""
