"""The choices: what the leader proposes, and what a node does, given what they see.

Both are level-triggered: they compare what is wanted with what is and name the difference. Running
them again changes nothing, and a missed event costs one step.
"""
