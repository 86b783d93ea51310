"""Examines this machine and account for what Recon needs, and names the command that mends each gap."""
