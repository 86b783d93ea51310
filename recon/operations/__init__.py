"""What operators do to a whole store: rebuild, upkeep, copy, examination of the machine, packages for other machines."""
