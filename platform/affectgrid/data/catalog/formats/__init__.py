"""Formats of data sets, a module each, named as ``--format`` names it: `choice` finds them, `rows` reads their files.

A module of a format has two functions of a `Tree`: ``recognise`` says whether a data set is of this format, from the
names of files and folders, and ``read`` makes the `Catalog`. docs/formats.md says how to add one.
"""
