"""Merge all notes into the index with its split and the list of rejected, and format a summary table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimic.data.index import REJECTED, DataError, PreparedClip, Split, write_index, write_rows
from mimic.data.prepare.notes import Notes, Row
from mimic.data.prepare.settings import PrepareSettings
from mimic.data.prepare.sources import Source
from mimic.data.prepare.work import REASONS


@dataclass(frozen=True)
class Prepared:
    """Result of preparing a folder of videos."""

    folder: Path
    num_videos: int
    clips: list[PreparedClip]
    rejected: list[Row]
    contact_sheet: Path | None = None

    def table(self) -> str:
        """Format counts, hours and reasons of rejection as a table."""
        return _aligned([*self._kept(), [], *self._dropped()])

    def _kept(self) -> list[list[str]]:
        lines = [["clips", "videos", "clips", "frames", "hours", "person", "body", "hands"]]
        for split in ("train", "val"):
            own = [clip for clip in self.clips if clip.split == split]
            weights = [clip.num_frames for clip in own]
            means = [
                f"{np.average([getattr(clip, name) for clip in own], weights=weights):.2f}" if own else "-"
                for name in ("person_coverage", "body_confidence", "hand_confidence")
            ]
            hours = sum(clip.num_frames / clip.fps for clip in own) / 3600
            num_videos = len({clip.video for clip in own})
            counts = [str(num_videos), str(len(own)), str(sum(weights)), f"{hours:.3f}"]
            lines.append([f"  {split}", *counts, *means])
        return lines

    def _dropped(self) -> list[list[str]]:
        lines = [["rejected", "videos", "pieces", "frames", "hours"]]
        for reason in REASONS:
            own = [row for row in self.rejected if row["reason"] == reason]
            if own:
                known = [row for row in own if row["frames"] is not None and row["fps"]]
                frames = [row["frames"][1] - row["frames"][0] for row in known]
                hours = sum(count / row["fps"] for count, row in zip(frames, known)) / 3600
                sums = [str(sum(frames)), f"{hours:.3f}"] if known else ["?", "?"]
                lines.append([f"  {reason}", str(len({row["video"] for row in own})), str(len(own)), *sums])
        if len(lines) == 1:
            lines.append(["  nothing", "0", "0", "0", "0.000"])
        return lines


def merge(
    folder: Path, videos: Path, sources: Sequence[Source], settings: PrepareSettings
) -> tuple[list[PreparedClip], list[Row]]:
    """Merge the notes of all videos, in their order, into clips and rejected rows.

    Raises:
        DataError: work on a video is not finished.
    """
    notes = Notes(folder)
    rows: list[Row] = []
    rejected: list[Row] = []
    for source in sources:
        survey = notes.survey(source)
        parts = [notes.part(source, first) for first, _ in survey.parts] if survey is not None else [None]
        dropped = [*survey.rejected] if survey is not None else []
        for part in parts:
            if part is None:
                raise DataError(f"{source.video} changed while it was processed; rerun the command")
            rows.extend(part.clips)
            dropped.extend(part.rejected)
        rejected.extend(sorted(dropped, key=lambda row: (row["frames"] or [0, 0])[0]))
    splits = split_by_video((row["video"] for row in rows), val_share=settings.val_share, seed=settings.seed)
    clips = [PreparedClip(**row, split=splits[row["video"]], folder=folder, videos=videos) for row in rows]
    return clips, rejected


def write(folder: Path, clips: Sequence[PreparedClip], rejected: Sequence[Row]) -> None:
    """Write both lists, the index last, so that a new index means that all files are new."""
    write_rows(folder / REJECTED, rejected)
    write_index(folder, clips)


def split_by_video(videos: Iterable[str], *, val_share: float, seed: int) -> dict[str, Split]:
    """Assign each video to a split, ``train`` or ``val``.

    The path of a video and the seed determine a number in [0, 1); if it is below `val_share`, the video is
    used for validation. The split of a video therefore does not change when others are added. Of two or more
    videos, at least one is used for validation (the lowest number), unless `val_share` is 0, and at least one
    for training (the highest). A single video is used for training.
    """
    drawn = {video: _draw(video, seed) for video in videos}
    splits: dict[str, Split] = {video: "val" if drawn[video] < val_share else "train" for video in drawn}
    order = sorted(drawn, key=lambda video: (drawn[video], video))
    if len(order) > 1 and val_share > 0:
        splits[order[0]] = "val"
    if order:
        splits[order[-1]] = "train"
    return splits


def _draw(video: str, seed: int) -> float:
    # A file name that is not valid text contains surrogates.
    digest = hashlib.blake2b(f"{seed}:{video}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _aligned(lines: list[list[str]]) -> str:
    width = max(len(line[0]) for line in lines if line)
    return "\n".join(
        (line[0].ljust(width) + "".join(cell.rjust(9) for cell in line[1:])).rstrip() if line else ""
        for line in lines
    )
