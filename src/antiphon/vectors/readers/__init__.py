"""Files become blocks: one module for each family of formats. Pure: bytes in, blocks out.

They run in a process of their own (`vectors.reader`), which is started for every file: a module imports no more than
its formats need.
"""
