#!/usr/bin/env python3
"""An exec program: started for each request, payload on stdin, result on stdout.

MESH_COMMAND, MESH_CALLER, MESH_DEADLINE and so on are in the environment. What it
writes to stderr goes to the caller when it fails.
"""

import json
import re
import sys

payload = json.load(sys.stdin)
if not isinstance(payload, dict) or not isinstance(payload.get("text"), str):
    sys.exit('the payload must be {"text": "..."}')  # to stderr, with status 1
print(json.dumps({"slug": "-".join(re.findall(r"[a-z0-9]+", payload["text"].lower()))}))
