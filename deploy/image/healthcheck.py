"""For the image's HEALTHCHECK: ends with 0 while the service is alive, loading or answering.

Kubernetes has probes of its own. Until the port opens the model loads: the start period covers it.
"""

from __future__ import annotations

import os
import sys
from urllib.request import urlopen

port = os.environ.get("VLM_GATE_PORT", "8080")
try:
    with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=4) as response:
        sys.exit(response.status != 200)
except OSError as error:  # refused, timed out, or a status that says no
    sys.exit(f"{error}")
