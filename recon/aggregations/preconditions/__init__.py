"""When an aggregation is due: the conditions of each scope, answered on one snapshot of the database, and why one does not hold."""
