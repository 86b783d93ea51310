"""The object store and what works on any store: the port, the local folder, S3, paths, leases, clocks, seals, caches of ranges.

An *object* is created once and never changed. ``layout`` names every path; ``open`` is the only module that knows all adapters.
What the objects mean belongs to ``recon.intake.files`` and ``recon.state``.
"""
