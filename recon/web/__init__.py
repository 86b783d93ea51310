"""The HTTP interface of the service: FastAPI on ``recon.api``; docs/service.md, docs/decisions/028-service.md.

``app`` puts it together, ``server`` runs it. ``requests``, ``uploads``, ``results``, ``lookups`` and ``health`` have the routes, ``models``
what they answer, ``problems`` every error. ``logins`` finds who asks. Around all routes lies ``guard``: limits of bodies, headers, the
``audit`` log, metrics. ``protocol`` is what uvicorn says before a request is one. ``port`` names what ``recon.api`` hands out.
"""
