"""Run a job on paths of some buckets; print a JSON line of its status and message for each.

One application for all of them: it is not its start that is tested.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from sparknn.cli.session import status_of
from sparknn.cli.train import train_logistic


def main() -> None:
    for bucket in sys.argv[1:]:
        asked = ["--input", f"s3a://{bucket}/rows.csv"]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            status = status_of(
                lambda asked=asked: train_logistic.main(asked, standalone_mode=False)
            )
        print(json.dumps([status, said.getvalue()]), flush=True)


if __name__ == "__main__":
    main()
