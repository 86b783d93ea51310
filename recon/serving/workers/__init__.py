"""Workers that load shares of the index table: processes here, or invocations of a Lambda function.

The *coordinator* plans shares and starts workers, *launchers* start them, a *worker* loads one share and records its *attempts* in the
store.
"""
