"""Jobs of the project itself."""

NIGHTLY = "0 5 * * *"
