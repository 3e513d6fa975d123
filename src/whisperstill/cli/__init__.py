"""The command line; the only package that imports tyro and rich."""
