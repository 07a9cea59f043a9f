"""The MCP face: validate, one call of the Lab, a typed answer."""
