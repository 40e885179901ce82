"""An inspection line: watch a folder, ask about each image, sort it by the decision, report.

    python examples/inspection_line.py camera/ "Is there a scratch on the plate?"

A camera (or anything else) drops images into the folder. Each is asked about once it is whole, and
then moved into ``accepted/``, ``escalated/`` or ``rejected/`` below it; an image that the service
cannot read goes to ``unreadable/``. Every answer is one line of ``report.jsonl`` there. While the
service is away or full, images stay where they are and are asked about later. In shadow mode
everything goes to ``shadow/``: nobody is to act on those decisions. Ctrl-C ends it with a summary.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.client import URL, Client, ClientError, Refused
from service.schemas.answer import AnswerResponse

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
FOLDERS = {"accept": "accepted", "escalate": "escalated", "reject": "rejected"}
BAD_IMAGE = (413, 415, 422)


class Line:
    """One camera's folder and what became of its images.

    Args:
        folder: where images arrive.
        question: asked about each.
        client: of the service.
        metadata: sent with each question, such as the line's name.
    """

    def __init__(
        self, folder: Path, question: str, client: Client, metadata: Mapping[str, str]
    ) -> None:
        self.folder, self.question, self.client = folder, question, client
        self.metadata = dict(metadata)
        self.sorted: Counter[str] = Counter()
        self._sizes: dict[Path, int] = {}

    def look(self, *, settled: bool = False) -> int:
        """Ask about the images that are whole; gives how many were sorted.

        Args:
            settled: nothing is being written any more, so that every image is whole.
        """
        count = 0
        for path in self._whole(settled):
            try:
                answer = self.client.answer(path, self.question, metadata=self.metadata)
            except Refused as refused:
                if refused.status not in BAD_IMAGE or refused.field != "image":
                    raise
                self._sort(path, "unreadable", {"detail": refused.detail})
            else:
                shadow = answer.mode == "shadow"
                folder = "shadow" if shadow else FOLDERS[answer.decision]
                self._sort(path, folder, _summary(answer))
            count += 1
        return count

    def _whole(self, settled: bool) -> Iterator[Path]:
        """Images whose size has not changed since the last look, oldest first."""
        seen = {
            path: path.stat()
            for path in self.folder.iterdir()
            if path.suffix.lower() in IMAGES and path.is_file()
        }
        before, self._sizes = self._sizes, {path: stat.st_size for path, stat in seen.items()}
        for path in sorted(seen, key=lambda path: (seen[path].st_mtime_ns, path.name)):
            if settled or before.get(path) == seen[path].st_size:
                yield path

    def _sort(self, path: Path, folder: str, told: Mapping[str, object]) -> None:
        """Report first: an image that was moved has its line."""
        target = self.folder / folder / path.name
        if target.exists():
            target = target.with_stem(f"{path.stem}-{time.time_ns()}")
        target.parent.mkdir(exist_ok=True)
        line = {"image": path.name, "sorted": f"{folder}/{target.name}", **told}
        with (self.folder / "report.jsonl").open("a") as report:
            report.write(json.dumps(line, ensure_ascii=False) + "\n")
        path.rename(target)
        self.sorted[folder] += 1
        print(f"{path.name} -> {folder}: {told.get('answer', told.get('detail'))}", flush=True)

    def summary(self) -> str:
        """One line for the end of the shift."""
        counts = ", ".join(f"{count} {folder}" for folder, count in sorted(self.sorted.items()))
        return f"{self.sorted.total()} images: {counts or 'none'}"


def _summary(answer: AnswerResponse) -> dict[str, object]:
    return {
        "id": answer.id,
        "answer": answer.answer,
        "decision": answer.decision,
        "reason": answer.reason,
        "risk": answer.risk.score,
        "certificate": getattr(answer.certificate, "id", None),
        "bundle": answer.bundle,
    }


def main() -> int:
    """Watch until interrupted, or with ``--once`` sort what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("--url", default=URL, help="where the service listens")
    parser.add_argument("--api-key-file", type=Path, help="file with the key")
    parser.add_argument("--line", default="1", help="name of the line, sent as metadata")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between looks")
    parser.add_argument("--once", action="store_true", help="sort what is there and end")
    given = parser.parse_args()
    key = None if given.api_key_file is None else given.api_key_file.read_text().strip()
    with Client(given.url, api_key=key) as client:
        line = Line(given.folder, given.question, client, {"line": given.line})
        try:
            if given.once:
                line.look(settled=True)
            while not given.once:
                try:
                    line.look()
                except ClientError as error:
                    print(f"waiting: {error}", file=sys.stderr, flush=True)
                time.sleep(given.every)
        except KeyboardInterrupt:
            pass
        except ClientError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            print(line.summary(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
