"""The HTTP interface of the service: FastAPI on ``recon.api``; docs/decisions/028-service.md."""
