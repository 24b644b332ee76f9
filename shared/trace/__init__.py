"""What became of a canvas: put together from the result store, the task logs and the dead letters.

`facts` is what the result store keeps for it, `sources` reads, `tree` joins what was read.
"""
