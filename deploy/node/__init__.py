"""The programs of a cluster's machines: the standard library of Python 3.9 and later, no more.

They are packed into one file, `node.pyz`, which a machine fetches when it boots.
"""
