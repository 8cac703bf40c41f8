"""A run as steps that something else puts in order: Dagster, Step Functions, or a loop in this process."""
