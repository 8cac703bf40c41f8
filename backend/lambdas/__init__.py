"""Lambda functions on this machine: their handlers behind the Lambda Invoke API, and the archives that are deployed.

`LocalLambda` (`backend.lambdas.service`) runs handlers as AWS does, under the runtime that AWS uses, so that what is
tested here is what a deployment runs. Nothing else of the service depends on it.
"""
