"""Sample events: the story of ``recon demo``, the files of ``recon init``, and generated events with known answers."""
