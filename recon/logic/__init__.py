"""The user's own function, ``logic: module:function``: its source, its digest, and its calls after reduce and after merge.

The function gets and returns Arrow tables; this room checks that it changes only what it may. ``recon.config.load`` reads its name.
"""
