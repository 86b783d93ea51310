"""The request: its form, and how it is read. All that can be wrong with it is said before a file is opened."""
