"""Resources of the project itself."""

OWNER = "team:reporting"
