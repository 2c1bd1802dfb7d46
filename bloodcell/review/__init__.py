"""The review desk: where people look at the night's results, correct and sign them.

people           who somebody is, and what each role may do
local_users      people with a password of bloodcell's own (`bloodcell users`), and links that work once
users_file       the file of those people
passwords        which passwords are allowed, and their hashes
ldap_login       people log in by the site's directory
oidc_login       people log in by the site's OpenID provider, and again before a signature
openid_provider  what the OpenID provider says of itself, its keys, and the requests to it
"""
