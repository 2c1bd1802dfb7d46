"""The review desk: where people look at the night's results, correct and sign them.

people       who somebody is, and what each role may do
local_users  people with a password of bloodcell's own (`bloodcell users`)
users_file   the file of those people
passwords    which passwords are allowed, and their hashes
"""
