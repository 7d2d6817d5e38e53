"""What a report page packed away."""

import base64
import json
import re
import zlib


def details(page):
    """The texts of a page's rows, then of its sets."""
    packed = re.search(r'id="packed">(.*?)</script>', page.read_text(encoding="utf-8")).group(1)
    return [json.loads(line) for line in zlib.decompress(base64.b64decode(packed), wbits=31).splitlines()]
