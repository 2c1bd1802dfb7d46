"""How somebody gets into a desk that nobody has used yet: the user of this machine, by a link that works once."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Final

from bloodcell.errors import AlreadyDoneError
from bloodcell.review.local_users import list_users, make_link
from bloodcell.review.people import Role, person_name

if TYPE_CHECKING:
    from bloodcell.settings import Settings

_ROLES: Final[tuple[Role, ...]] = ("senior", "administrator")


def way_in(settings: Settings) -> str:
    """Returns the desk's address, with a link that sets the first person's password while nobody has one.

    Args:
        settings: Where the desk and its users file are.
    """
    address = settings.desk_origin
    if settings.desk_login != "local":
        return f"{address}   people log in with their account of the laboratory"
    if any(user.state == "active" for user in list_users(settings.users_file)):
        return f"{address}   bloodcell users lists who may log in"
    name = person_name(pwd.getpwuid(os.geteuid()).pw_name)
    try:
        token = make_link(settings.users_file, name, _ROLES)
    except AlreadyDoneError:  # who was removed is not let in again by a restart
        return f"{address}   bloodcell users add NAME --role senior lets somebody in"
    return f"{address}/enter/{token}   sets the password of {name}, once"
