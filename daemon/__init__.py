"""The live path, the service around it and the command line."""
