"""The whole way from scans to a report, and how long a training takes on this machine.

stages.py   one stage each: prepare, train, evaluate; each knows the command that repeats it
run.py      `syndiff run`: decides what nobody said, then all stages; continues what was stopped
plan.py     `syndiff plan`: hours and memory of each preset
"""
