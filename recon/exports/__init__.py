"""Files for other programs: all of them or none, each whole, with nothing in them that a spreadsheet would run."""
