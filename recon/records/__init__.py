"""Records by the column: encodes Arrow columns as the words of many records, decodes them again, and joins contributions.

The form is that of docs/format.md. ``recon.model.record`` reads one record without numpy and Arrow.
"""
