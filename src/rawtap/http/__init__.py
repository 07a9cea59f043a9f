"""MCP over streamable HTTP: who may come in, and which Lab is theirs."""
