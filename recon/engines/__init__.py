"""The engines that carry out reduce and merge. All must produce identical artifacts for the same input."""
