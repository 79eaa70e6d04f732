"""The page of a training: what it says of the steps, and that names never become markup."""

import json
from html.parser import HTMLParser

from mimic.training.report import write_report

HOSTILE = "<img src=x onerror=alert(1)>"
METRICS = {"psnr": 20.0, "ssim": 0.5, "loss_sigma_0.5": 0.1}


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


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
    elements = Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    text = " ".join(elements.text.split())
    assert "Step 20 is the best so far: PSNR 40 dB, 20 above the model before training" in text
    assert "step 0 (before training)step 20 (best)step 30 (last)" in text
    shown = [value for name, value in elements.attributes if name == "src"]
    assert shown == ["validation/step-000000.mp4", "validation/step-000020.mp4"]
    assert "Step 30, last: validation/step-000030.mp4 is not there." in text
    # Loss, one level of the loss, and three metrics of validation.
    assert elements.tags.count("polyline") == 5
    assert "training loss: 0.03333 to 1, steps 1 to 30" in text
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
