"""Is the collector in this container ready to acknowledge? Exit 0 if so, else 1 and a sentence.

For the image's HEALTHCHECK: the slim base has no curl or wget, and Python is there anyway.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 2.0


def main() -> int:
    """Ask `/ready` on the port the collector was told to use."""
    url = f"http://127.0.0.1:{os.environ.get('GRAPHMETER_PORT', '4318')}/ready"
    try:
        # No proxy: the request never leaves the container.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=TIMEOUT_S):
            return 0
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
