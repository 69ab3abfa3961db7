"""TCP ports for servers that a test starts: nobody else on the machine is given one while the tests run.

A port that was looked up and let go may be anybody's a moment later, and a server takes seconds to start. So it stays
bound, though nobody listens there: connections are refused, the system gives it to nobody who asks for any port, and a
server that asks for this one gets it, as often as it comes back (all of ours set SO_REUSEADDR, as servers do).
"""

from __future__ import annotations

import atexit
import socket
from contextlib import ExitStack

_reserved = ExitStack()
atexit.register(_reserved.close)  # else the interpreter warns of each at its end


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    one = _reserved.enter_context(socket.socket())
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    return int(one.getsockname()[1])
