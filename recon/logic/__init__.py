"""The user's own function, ``logic: module:function``: its source, its digest, and its calls after reduce and after merge.

It works on Arrow tables. Which configuration names it is known to ``recon.config.load``; what it may change is checked here.
"""
