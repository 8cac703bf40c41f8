"""The Agents Runtime API of Amazon Bedrock as far as it asks knowledge bases: bodies, results, errors, frames. Pure."""
