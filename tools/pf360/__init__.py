"""The PF360 scheduling API as the tools see it: typed answers, typed errors, one place for its traps."""
