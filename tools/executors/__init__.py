"""Where tools run when it is not in this process: Lambda functions, HTTP APIs, MCP servers, the client itself.

Nothing that a Lambda handler imports may reach this package; it alone may import botocore, aiohttp, jsonschema or mcp.
"""
