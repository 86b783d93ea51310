"""Definitions of aggregations: their fields, the YAML files beside the configuration, and the table ``aggregations``."""
