"""The engines that read inputs, make tables and write outputs."""
