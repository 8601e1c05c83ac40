"""tuspy uploads a file: ENDPOINT TOKEN FILE OPTIONS. Prints the upload's address."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from requests import RequestException
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

TRIES = 100


def main() -> None:
    endpoint, token, path, options = sys.argv[1:]
    client = TusClient(endpoint, headers={"Authorization": f"Bearer {token}"})
    metadata = {"filename": "clip.mp4", "filetype": "video/mp4", "purpose": "video"}
    uploader: Any = None
    for attempt in range(TRIES):
        try:
            if uploader is None:
                uploader = client.uploader(path, metadata=metadata, **json.loads(options))
            elif uploader.url is not None:
                uploader.offset = uploader.get_offset()
            uploader.upload()
            print(uploader.url)
            return
        except (TusCommunicationError, RequestException) as error:
            if attempt == TRIES - 1:
                raise
            print(f"once more: {type(error).__name__}", file=sys.stderr)
            time.sleep(0.1)  # as its users do; the line may still be down


if __name__ == "__main__":
    main()
