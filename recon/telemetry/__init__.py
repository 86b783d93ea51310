"""What a process tells others about its work: JSON logs, and OpenLineage events. Nothing here makes work fail."""
