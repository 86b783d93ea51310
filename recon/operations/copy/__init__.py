"""Copies a store to another one, window by window, and proves that everything arrived."""
