"""A whole cluster in one process, on simulated time, and the checkers of what it did.

`run` lives through one history of a `plan`, which a seed draws. In its `world`, each `host` has a
`disk`, a `hypervisor` and a daemon (`node`), which runs the shipped engine, law and agent over a
`network`; `clients` and an `administrator` ask, and `faults` strike. `checks` and `canon` say what
must hold, `linearizability` what clients may be told. `soak` runs many seeds; `explorer` tries
every order of events in a small cluster; `sabotage` switches rules off, which `rules` lists.
"""
