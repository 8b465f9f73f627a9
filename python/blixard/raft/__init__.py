"""The replicated log: pysyncobj's Raft behind a journal, a transport and a guard of our own.

"The paper" in this folder is D. Ongaro and J. Ousterhout, "In Search of an Understandable Consensus
Algorithm" (extended version, 2014); "the thesis" is D. Ongaro, "Consensus: Bridging Theory and
Practice" (2014).

A message from a peer goes through `transport`, `engine` and `guard` to `core` (pysyncobj,
corrected), and changes the `journal`. At the end of the turn the journal commits to the `store`;
only after that the callers are told and the messages leave.
"""
