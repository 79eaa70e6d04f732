"""Run `mimic prepare`: check settings, survey videos, estimate poses, merge the results."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import PIL.Image

from mimic.cluster import Cluster, connected_cluster
from mimic.data.index import SETTINGS, DataError, read_settings
from mimic.data.prepare import own, result
from mimic.data.prepare.contact import contact_sheet
from mimic.data.prepare.notes import FAILED, FOLDER, Notes
from mimic.data.prepare.own import CONTACT_SHEET
from mimic.data.prepare.result import Prepared
from mimic.data.prepare.settings import PrepareSettings, check_same, remembered
from mimic.data.prepare.shards import Place, place_of, share, wait_for_all
from mimic.data.prepare.sources import POSES, Source, walk
from mimic.data.prepare.work import Job
from mimic.data.prepare.workers import RunItems, WorkItem, run_items, run_items_on
from mimic.data.processes import ProcessCountError, check_num_processes, most_processes
from mimic.files import local_path, whole_file, write_json
from mimic.locks import locked_folder
from pose.session import choose_providers

STEP_FRAMES = 1800
"""Approximate number of frames per work item. Parts of a video are grouped up to this number, because each
item decodes the video from its start."""
GPU_WORKERS = 4
"""Default number of processes that share a GPU."""
BEGUN = (SETTINGS, POSES)
"""Files that other ranks may have just created in an empty folder."""


Runner = Literal["local", "ray"]
"""Who does the work: processes of this machine, or the workers of a Ray cluster."""


class StageProgress(Protocol):
    """Callback that shows the progress of each of the three stages."""

    def __call__(self, stage: str, unit: str, done: int, total: int) -> None: ...


def prepare(
    videos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: PrepareSettings | None = None,
    *,
    num_workers: int | None = None,
    device: str = "auto",
    progress: StageProgress | None = None,
    say: Callable[[str], None] | None = None,
    place: Place | None = None,
    runner: Runner = "local",
) -> Prepared | None:
    """Turn the videos of a folder into clips with poses; resumes an interrupted run.

    Args:
        videos: the folder of videos, searched recursively.
        out: the prepared folder; see `mimic.data.index`.
        settings: requirements on clips, and how poses are estimated.
        num_workers: number of processes; None: one per core, or four with a GPU.
        device: device of the pose networks: `auto`, `cpu`, `cuda` or `cuda:<index>`.
        progress: called with the progress of each stage.
        say: called with messages to show.
        place: rank among the processes that share the work; None reads torchrun's environment variables.
        runner: ``local`` uses processes of this machine; ``ray`` the workers of a Ray cluster (see
            `mimic.cluster`), where every machine sees both folders under the same paths.

    Returns:
        the result; None on ranks other than the first.

    Raises:
        DataError: folder, settings or environment are invalid; raised before any computation.
        PoseError: the device does not exist, or files of the estimator are missing; raised before any
            computation.
        FolderInUseError: another process prepares into the folder.
        WorkerError: a process died; finished work is kept.
        ClusterError: there is no Ray, or no cluster at its address.
        OSError: the disk is full; finished work is kept.
    """
    settings, place = settings or PrepareSettings(), place or place_of()
    if num_workers is not None and runner == "local":
        try:
            check_num_processes(num_workers, "the number of workers", least=1)
        except ProcessCountError as error:
            raise DataError(str(error)) from error
    show = progress or (lambda stage, unit, done, total: None)
    tell = say or (lambda line: None)
    videos, out = local_path(videos), local_path(out)
    sources = walk(videos)
    facts = remembered(settings)
    estimator = facts["estimator"]
    with contextlib.ExitStack() as stack:
        if runner == "ray":
            cluster = stack.enter_context(connected_cluster(num_workers))
            device, run = _on_cluster(cluster, estimator, device, num_workers)
        else:
            device = _device(estimator, device, place)
            workers = num_workers if num_workers is not None else _usual_workers(device, place)
            run = functools.partial(run_items, num_workers=workers)
        own_poses = _begin(out, videos, sources, facts, place, tell=tell)
        if place.is_first:
            stack.enter_context(locked_folder(out, work="mimic prepare", say=tell))
        job = Job(videos.resolve(), out, settings, estimator, device)
        with _full_disk_explained(out):
            _work(job, share(sources, place), run, show=show, tell=tell)
            if not place.is_first:
                tell(f"rank {place.rank} of {place.world_size} is done; rank 0 writes the index")
                return None
            return _finish(job, sources, own_poses, show=show, tell=tell)


@contextlib.contextmanager
def _full_disk_explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                f"no space is left for {out}. Finished work is kept; free some space and rerun the command"
            ) from error
        raise


def _begin(
    out: Path,
    videos: Path,
    sources: list[Source],
    facts: dict[str, Any],
    place: Place,
    *,
    tell: Callable[[str], None],
) -> set[str]:
    """Create the folder and record the settings, or check that it was made with the same settings.

    Returns:
        names of the pose files that earlier runs wrote.

    Raises:
        DataError: the folder cannot be written, holds other files, or was made with other settings.
    """
    try:
        if (out / SETTINGS).is_file():
            before = read_settings(out)
            if Path(before["videos"]) != videos.resolve():
                raise DataError(
                    f"{out} was prepared from {before['videos']}, not from {videos.resolve()}. Give that "
                    "folder of videos, or prepare into another folder"
                )
            check_same(out, before.get("settings", {}), facts)
        elif out.is_dir() and any(path.name not in BEGUN for path in out.iterdir() if path.name[0] != "."):
            raise DataError(f"{out} holds other files; give a new or empty folder")
        own_poses = own.own_poses(out)
        own.check_places(out, sources, own_poses)
        if place.is_first:
            others = own.not_ours(out, sources, own_poses)
            if others:
                tell(f"not written by prepare, left unchanged: {own.named(others)}")
            _note_settings(out, videos, facts)
        out.mkdir(parents=True, exist_ok=True)
        (out / POSES).mkdir(exist_ok=True)
        (out / FOLDER).mkdir(exist_ok=True)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}); choose another folder") from error
    return own_poses


def _note_settings(out: Path, videos: Path, facts: dict[str, Any]) -> None:
    place = videos.resolve()
    try:
        from_here = Path(os.path.relpath(place, out.resolve()))
    except ValueError:  # on another drive
        from_here = place
    content = {"videos": place.as_posix(), "videos_from_here": from_here.as_posix(), "settings": facts}
    write_json(out / SETTINGS, content)


def _work(
    job: Job,
    sources: list[Source],
    run: RunItems,
    *,
    show: StageProgress,
    tell: Callable[[str], None],
) -> None:
    """Run both steps for this process's share of the videos, as far as they are not finished."""
    notes = Notes(job.data)
    notes.forget_failed(sources)
    unseen = [source for source in sources if notes.survey(source) is None]
    if len(unseen) < len(sources):
        tell(f"resuming: {len(sources) - len(unseen)} of {len(sources)} videos are already surveyed")
    run(
        job,
        [(source, None) for source in unseen],
        progress=lambda _, num_items: show("cuts", "video", num_items, len(unseen)),
    )
    items = _pose_items(notes, sources)
    total = sum(end - first for _, parts in items for first, end in parts or [])
    run(
        job,
        items,
        progress=lambda num_frames, _: show("poses", "frame", min(num_frames, total), total),
    )


def _pose_items(notes: Notes, sources: list[Source]) -> list[WorkItem]:
    """Return the remaining work items, longest first, so that no process ends long after the others."""
    items: list[tuple[int, WorkItem]] = []
    for source in sources:
        survey = notes.survey(source)
        if survey is None:
            raise DataError(f"{source.video} changed while it was processed; rerun the command")
        group: list[tuple[int, int]] = []
        length = 0
        for part in notes.missing_parts(source, survey):
            group.append(part)
            length += part[1] - part[0]
            if length >= STEP_FRAMES:
                items.append((length, (source, group)))
                group, length = [], 0
        if group:
            items.append((length, (source, group)))
    return [item for _, item in sorted(items, key=lambda sized: -sized[0])]


def _finish(
    job: Job,
    sources: list[Source],
    own_poses: set[str],
    *,
    show: StageProgress,
    tell: Callable[[str], None],
) -> Prepared:
    notes = Notes(job.data)
    wait_for_all(notes, sources, progress=lambda done, total: show("all ranks", "video", done, total))
    clips, rejected = result.merge(job.data, job.videos, sources, job.settings)
    prepared = Prepared(job.data, len(sources), clips, rejected)
    num_failed = len({row["video"] for row in rejected if row["reason"] == FAILED})
    if num_failed:
        tell(f"{num_failed} videos failed for reasons outside their content; the next run tries them again")
    sheet = job.data / CONTACT_SHEET
    if clips:
        tell("drawing the contact sheet")
        picture = contact_sheet(clips, seed=job.settings.seed)
        # The sheet is renamed after the index: without clips in the index, a file of that name is not ours.
        with whole_file(sheet) as beside:
            PIL.Image.fromarray(picture).save(beside)
            result.write(job.data, clips, rejected)
        prepared = replace(prepared, contact_sheet=sheet)
    else:
        if own.has_contact_sheet(job.data):
            sheet.unlink(missing_ok=True)
        result.write(job.data, clips, rejected)
    own.clean(job.data, own_poses, clips, sources)
    return prepared


def _device(estimator: str, device: str, place: Place) -> str:
    """Resolve the device; each rank of a machine uses a different GPU.

    Raises:
        PoseError: the device does not exist.
    """
    providers = choose_providers(device)
    if device == "cpu" or (device == "auto" and (estimator == "blazepose" or len(providers) == 1)):
        return "cpu"
    return device if ":" in device else f"cuda:{place.local_rank}"


def _on_cluster(
    cluster: Cluster, estimator: str, device: str, num_workers: int | None
) -> tuple[str, RunItems]:
    """Return the device that workers of the cluster compute on, and what runs items there."""
    is_small = device == "auto" and estimator == "blazepose"
    device = "cpu" if device == "cpu" or is_small or not cluster.num_gpus else "cuda:0"
    workers = num_workers or (cluster.num_cpus if device == "cpu" else cluster.num_gpus)
    return device, functools.partial(run_items_on, cluster, num_workers=workers)


def _usual_workers(device: str, place: Place) -> int:
    most = most_processes() if device == "cpu" else GPU_WORKERS
    return min(most, place.num_workers())
