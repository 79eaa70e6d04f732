"""The page of a training: what it says of the steps, and that names never become markup."""

import json
from html.parser import HTMLParser

import pytest

from mimic.training.loop import train
from mimic.training.report import write_report
from tests.mimic.training.small import Said, quick_settings

HOSTILE = "<img src=x onerror=alert(1)>"
METRICS = {"psnr": 20.0, "ssim": 0.5, "loss_sigma_0.5": 0.1}


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self.curves = [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "polyline":
            places = [place.split(",") for place in dict(attrs)["points"].split()]
            self.curves.append([float(y) for _, y in places])

    def handle_data(self, data):
        self.text += data


def read(page):
    """The elements of a page, and its text with single blanks."""
    elements = Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    return elements, " ".join(elements.text.split())


def validated(folder, *psnr):
    """A log of a step for each PSNR, all validated."""
    lines = [{"step": step, "loss": 0.5, "validation": {"psnr": value}} for step, value in enumerate(psnr)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_log(folder, **more):
    """A log of 30 steps, validated at 0, 10, 20 and 30."""
    lines = [{"step": 0, "validation": METRICS}]
    for step in range(1, 31):
        line = {"step": step, "loss": 1 / step, "lr": 1e-4, "levels": {"loss_sigma_1": 0.2}}
        better = {**METRICS, "psnr": 20.0 + (step if step < 30 else 5), **more}
        lines.append(line | ({"validation": better} if step % 10 == 0 else {}))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_there_is_no_page_before_the_first_validation(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "loss": 0.5}) + "\n")
    assert write_report(tmp_path, best_by="psnr", best_step=None, videos="validation") is None


def test_the_page_says_what_was_best_and_shows_three_steps_and_every_curve(tmp_path):
    write_log(tmp_path)
    (tmp_path / "validation").mkdir()
    for step in (0, 20):
        (tmp_path / "validation" / f"step-{step:06d}.mp4").touch()
    page = write_report(tmp_path, best_by="psnr", best_step=20, videos="validation")
    elements, text = read(page)
    assert "Step 20 is the best so far: PSNR 40 dB, 20 above the model before training. " in text
    assert " There were 4 validations, all on the same validation set." in text
    assert "step 0 (before training)step 20 (best)step 30 (last)" in text
    shown = [value for name, value in elements.attributes if name == "src"]
    assert shown == ["validation/step-000000.mp4", "validation/step-000020.mp4"]
    assert "Step 30, last: validation/step-000030.mp4 is not there." in text
    # Loss, one level of the loss, and three metrics of validation.
    assert elements.tags.count("polyline") == 5
    assert "training loss: 0.03333 to 1, steps 1 to 30" in text
    assert "training loss at sigma = 1: 0.2 throughout, steps 1 to 30" in text
    assert "loss_sigma" not in text
    assert elements.tags.count("th") == 4 + len(METRICS), "each row has a heading as well"


def test_names_are_shown_and_never_become_markup(tmp_path):
    folder = tmp_path / HOSTILE.replace("/", "")
    folder.mkdir()
    write_log(folder, **{HOSTILE: 1.0})
    page = write_report(folder, best_by=HOSTILE, best_step=None, videos=HOSTILE)
    elements = Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    assert "img" not in elements.tags
    assert "onerror" not in dict(elements.attributes)
    assert elements.text.count(HOSTILE) >= 4


@pytest.mark.parametrize(
    ("is_finished", "said"), [(False, "Step 1 is the best so far: "), (True, "Step 1 is the best: ")]
)
def test_only_a_finished_training_has_a_best_step(tmp_path, is_finished, said):
    validated(tmp_path, 20.0, 21.0)
    page = write_report(tmp_path, best_by="psnr", best_step=1, videos="validation", is_finished=is_finished)
    assert said in read(page)[1]


@pytest.mark.parametrize(
    ("best_step", "said"),
    [(0, ". There was 1 validation. metric"), (None, "There was 1 validation; it has no psnr, by which")],
)
def test_a_single_validation_is_not_called_several(tmp_path, best_step, said):
    validated(tmp_path, 20.0)
    page = write_report(tmp_path, best_by="psnr", best_step=best_step, videos="validation")
    assert said in read(page)[1]


def test_the_axes_of_a_curve_say_where_it_begins_and_ends(tmp_path):
    validated(tmp_path, 10.0, 30.0, 20.0)
    elements, text = read(write_report(tmp_path, best_by="psnr", best_step=1, videos="validation"))
    assert "PSNR, dB: 10 to 30, steps 0 to 2 30 10 step 0 step 2" in text
    start, best, end = elements.curves[-1]
    assert best < end < start, "the axis points upwards"
    assert end == pytest.approx((start + best) / 2)


def test_a_difference_of_a_thousandth_is_drawn_nearly_flat(tmp_path):
    validated(tmp_path, 17.51, 17.49, 17.51)
    elements, text = read(write_report(tmp_path, best_by="psnr", best_step=0, videos="validation"))
    assert "PSNR, dB: 17.49 to 17.51, steps 0 to 2 17.68 17.32 step 0 step 2" in text
    height = float(dict(elements.attributes)["viewbox"].split()[3])
    assert max(elements.curves[-1]) - min(elements.curves[-1]) < height / 10


@pytest.mark.parametrize("value", [0.0, -3.0, 1e299])
def test_a_curve_of_equal_values_is_in_the_middle(tmp_path, value):
    validated(tmp_path, value, value)
    elements, text = read(write_report(tmp_path, best_by="psnr", best_step=0, videos="validation"))
    assert f"PSNR, dB: {value:.4g} throughout, steps 0 to 1" in text
    assert elements.curves[-1] == elements.curves[0], "that of the loss, which is the same at every step"


@pytest.mark.parametrize("every", [0, 1])
def test_a_training_names_its_page_in_the_end(tmp_path, every):
    said = Said()
    settings = quick_settings(tmp_path, max_steps=1, validation={"every": every, "num_clips": 1})
    train(settings, say=said)
    assert (tmp_path / "report.html").exists() == bool(every)
    assert str(said).endswith(f"look at: {tmp_path / 'report.html'}") == bool(every)
