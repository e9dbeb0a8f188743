"""World models: states, imagination, evidence."""
