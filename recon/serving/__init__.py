"""Serving copies, for look-ups: quick ways to what the store holds. No stage's correctness rests on any of them."""
