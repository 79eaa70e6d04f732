"""Inference YAMLs: the released one unchanged, changes from the command line, what is said of mistakes."""

from pathlib import Path

import pytest
import yaml

from mimic.config import CaseConfig, ConfigError, InferenceConfig, load_inference_config, shipped_config

RELEASED = """
# base svd model path
base_model_path: stabilityai/stable-video-diffusion-img2vid-xt-1-1

# checkpoint path
ckpt_path: models/MimicMotion_1-1.pth

test_case:
  - ref_video_path: assets/example_data/videos/pose1.mp4
    ref_image_path: assets/example_data/images/demo1.jpg
    num_frames: 72
    resolution: 576
    frames_overlap: 6
    num_inference_steps: 25
    noise_aug_strength: 0
    guidance_scale: 2.0
    sample_stride: 2
    fps: 15
    seed: 42
"""
CONFIGS = Path(__file__).parents[3] / "configs"
INFERENCE_CONFIGS = sorted(CONFIGS.glob("*.yaml"))


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "test.yaml"
    path.write_text(RELEASED)
    return path


def test_the_released_yaml_is_taken_as_it_is(released: Path) -> None:
    config = load_inference_config(released)
    assert config.base_model_path == "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
    assert config.ckpt_path == "models/MimicMotion_1-1.pth"
    (case,) = config.test_case
    # In the released script num_frames is the tile size; the number of frames follows from the clip.
    assert (case.tile_size, case.tile_overlap, case.max_frames) == (72, 6, None)
    assert (case.resolution, case.num_inference_steps, case.noise_aug_strength) == (576, 25, 0)
    assert case.sampling()["guidance_scale"] == 2.0
    assert (case.sample_stride, case.fps, case.seed) == (2, 15, 42)
    assert (case.align, case.draw) == ("released", "confidence")
    assert config.case_names() == ["pose1_demo1"]


@pytest.mark.parametrize("path", INFERENCE_CONFIGS, ids=lambda path: path.name)
def test_every_shipped_yaml_is_valid_and_says_how_to_run_it(path: Path) -> None:
    load_inference_config(path)
    header = "\n".join(
        line for line in path.read_text().split("\n\n", 1)[0].splitlines() if line.startswith("#")
    )
    assert path.name in header or f"mimic {path.stem}" in header
    for part in ("Needs:", "Gives:"):
        assert part in header


def test_shipped_yamls_are_found() -> None:
    assert {path.name for path in INFERENCE_CONFIGS} >= {"demo.yaml", "test.yaml"}
    assert shipped_config("demo.yaml") == CONFIGS / "demo.yaml"
    with pytest.raises(ConfigError, match=r"no config none\.yaml comes with mimic"):
        shipped_config("none.yaml")


def test_the_shipped_released_yaml_has_the_released_settings_and_inputs_that_are_there() -> None:
    shipped = yaml.safe_load((CONFIGS / "test.yaml").read_text())
    released = yaml.safe_load(RELEASED)
    for (case,) in (shipped["test_case"], released["test_case"]):
        del case["ref_image_path"], case["ref_video_path"]
    assert shipped == released


@pytest.mark.parametrize("path", INFERENCE_CONFIGS, ids=lambda path: path.name)
def test_shipped_yamls_name_pictures_and_clips_that_come_with_mimic(path: Path) -> None:
    assert load_inference_config(path).missing_inputs() == []


def test_settings_are_frozen(released: Path) -> None:
    config = load_inference_config(released)
    with pytest.raises(ValueError, match="frozen"):
        config.test_case[0].seed = 3


def test_every_setting_has_its_meaning_beneath_it() -> None:
    for settings in (CaseConfig, InferenceConfig):
        assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_changes_reach_one_case_all_cases_or_the_run(released: Path) -> None:
    changes = [
        "test_case.0.seed=7",
        "fps=10",
        "device=cpu",
        "test_case.0.height=null",
        "ckpt_path=~/my weights.pth",
    ]
    config = load_inference_config(released, changes)
    assert (config.test_case[0].seed, config.test_case[0].fps) == (7, 10)
    assert (config.device, config.ckpt_path) == ("cpu", "~/my weights.pth")


def test_a_whole_list_of_cases_can_be_given(released: Path) -> None:
    config = load_inference_config(released, ["test_case=[{ref_image_path: a.png, ref_video_path: b.mp4}]"])
    assert config.case_names() == ["b_a"]


def test_text_that_is_no_yaml_stays_text(released: Path) -> None:
    assert load_inference_config(released, ["ckpt_path=@odd: [name"]).ckpt_path == "@odd: [name"
    assert load_inference_config(released, ["base_model_path=bundled:mini"]).base_model_path == "bundled:mini"


def test_top_level_settings_are_defaults_of_cases_and_changes_go_before_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "fps: 8\nframes_overlap: 3\nresolution: 576\ntest_case:\n"
        "  - {ref_image_path: a.png, ref_video_path: b.mp4}\n"
        "  - {ref_image_path: c.png, ref_video_path: b, fps: 12, tile_overlap: 4, height: 64, width: 64}\n"
    )
    config = load_inference_config(tmp_path / "a.yaml")
    assert [case.fps for case in config.test_case] == [8, 12]
    assert [case.tile_overlap for case in config.test_case] == [3, 4]
    assert [(case.resolution, case.height) for case in config.test_case] == [(576, None), (None, 64)]
    changed = load_inference_config(tmp_path / "a.yaml", ["fps=9", "resolution=128"])
    assert [case.fps for case in changed.test_case] == [9, 9]
    assert [(case.resolution, case.height) for case in changed.test_case] == [(128, None), (128, None)]


def test_cases_without_names_get_different_ones(tmp_path: Path) -> None:
    case = "  - {ref_image_path: x/a.png, ref_video_path: 'bundled:demo/b.mp4'}\n"
    (tmp_path / "a.yaml").write_text(
        f"test_case:\n{case}{case}  - {{ref_image_path: c, ref_video_path: d, name: b_a_3}}\n{case}"
    )
    assert load_inference_config(tmp_path / "a.yaml").case_names() == ["b_a", "b_a_2", "b_a_3", "b_a_4"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("test_case.0.num_frame=3", r"test_case\[0\]\.num_frame is not a setting; did you mean num_frames\?"),
        ("sead=3", r"sead is not a setting; did you mean seed\?"),
        ("ckpt_pth=3", r"ckpt_pth is not a setting; did you mean ckpt_path\?"),
        ("test_case.0.zzz=3", r"test_case\[0\]\.zzz is not a setting\. `mimic configs"),
        ("zzz=3", r"zzz is not a setting\. `mimic configs --keys infer` lists the settings$"),
        ("test_case.0.seed=many", r"test_case\[0\]\.seed is 'many'; expected a whole number"),
        ("test_case.0.num_frames=4", r"frames_overlap is 6, but a window \(num_frames\) has 4 frames"),
        ("test_case.0.tile_size=4", r"frames_overlap is 6, but a window \(num_frames\) has 4 frames"),
        ("test_case.0.ref_image_path=", r"test_case\[0\]\.ref_image_path is ''"),
        ("test_case.3.seed=1", "test_case has 1 entries, numbered from 0; there is no 3"),
        ("test_case.0.height=64", "only one of height and width is given"),
        ("test_case.0.min_guidance_scale=1", "only one of min_guidance_scale and max_guidance_scale"),
        ("align=rubost", r"align is 'rubost'; expected 'released', 'robust', 'limbs' or 'none'"),
        ("anchor=first", "anchor is first, but align: released does not use it; set align: limbs"),
        ("smooth=4", "odd number of frames"),
        ("person=-1", "an index from 0"),
        ("name=a/b", "name is 'a/b'"),
        ("fps=0", "fps is 0; expected 0.1 or more"),
        ("fps=1e-9", "fps is 1e-09; expected 0.1 or more"),
        ("start=1e308", r"start is 1e\+308; expected .* or less"),
        ("num_inference_steps=1000000000000", "num_inference_steps is 1000000000000; expected 10000 or less"),
        (
            "timesteps=[100000000000000000000000]",
            r"timesteps\[0\] is 100000000000000000000000; expected 1000000 or less",
        ),
        ("seed=0x" + "f" * 5000, "seed is a huge value; expected less than"),
        ("seed=" + "9" * 6000, r"seed is '9{196}\.\.\.; Unable to parse"),
        ("a." * 3000 + "b=5", "settings are not nested so deeply"),
        ("sample_stride=1000000000", "sample_stride is 1000000000; expected 1000 or less"),
        ("test_case.0.tile_size=1e21", r"tile_size.* is 1e\+21; "),
        ("test_case.0.tile_size=1e400", "tile_size.* is inf; "),
        ("decode_chunk_size=1000000000", "decode_chunk_size is 1000000000; expected .* or less"),
        ("guidance_scale=1e38", r"guidance_scale is 1e\+38; expected 100 or less"),
        ("noise_aug_strength=1e30", r"noise_aug_strength is 1e\+30; expected 10 or less"),
        ("control_scale=.inf", "control_scale is inf; expected"),
        ("motion_bucket_id=100000", "motion_bucket_id is 100000; expected 1000 or less"),
        ("test_case=[]", "test_case is empty"),
        ("test_case=5", "expected a list of cases"),
        ("seed", "expected key=value"),
        ("=3", "expected key=value"),
        ("cpu_offload=${nothing}", "Interpolation key 'nothing' not found"),
    ],
)
def test_each_mistake_names_key_and_remedy(released: Path, change: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load_inference_config(released, [change])
    assert "\n" not in str(caught.value)


def test_two_mistakes_are_told_together(released: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_inference_config(released, ["test_case.0.sed=3", "estimater=dwpose"])
    assert len(str(caught.value).splitlines()) == 2


def test_files_that_are_no_config(tmp_path: Path, released: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no config .*tset\.yaml; did you mean .*test\.yaml\?"):
        load_inference_config(tmp_path / "tset.yaml")
    with pytest.raises(ConfigError, match=r"did you mean bundled:train/mini_magic_animate_stage1\?"):
        load_inference_config(tmp_path / "configs" / "train" / "mini_magic_animate_stage1.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not valid YAML"):
        load_inference_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds no keys"):
        load_inference_config(tmp_path / "list.yaml")
    (tmp_path / "none.yaml").write_text("base_model_path: x\n")
    with pytest.raises(ConfigError, match="test_case is missing: The cases"):
        load_inference_config(tmp_path / "none.yaml")


def test_two_cases_may_not_share_a_name(tmp_path: Path) -> None:
    case = "  - {ref_image_path: a, ref_video_path: b, name: same}\n"
    (tmp_path / "a.yaml").write_text(f"test_case:\n{case}{case}")
    with pytest.raises(ConfigError, match="two cases have the name 'same'"):
        load_inference_config(tmp_path / "a.yaml")


def write(folder: Path, content: dict) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    ["my dance #shorts.mp4", "007.mp4", "null", "2024-05-01", "2024-05-01T12:30:00.mp4", "[x].mp4",
     "a: b.mp4", "true", "${HOME}.mp4", "  two spaces.mp4", "1e3", "!tag.mp4", "*star.mp4", "@at.mp4"],
)  # fmt: skip
def test_a_path_on_the_command_line_is_taken_as_it_stands(tmp_path, text):
    path = write(tmp_path, {"test_case": [{"ref_image_path": "a.png", "ref_video_path": "b.mp4"}]})
    config = load_inference_config(path, [f"test_case.0.ref_video_path={text}", f"ckpt_path={text}.pth"])
    assert config.test_case[0].ref_video_path == text
    assert config.ckpt_path == f"{text}.pth"
    assert load_inference_config(path, [f"ref_image_path={text}"]).test_case[0].ref_image_path == text
    assert load_inference_config(path, [f"output_dir='{text}'"]).output_dir == text


def test_text_that_may_be_left_out_can_be_null_and_numbers_stay_numbers(tmp_path):
    path = write(
        tmp_path, {"ckpt_path": "x.pth", "test_case": [{"ref_image_path": "a", "ref_video_path": "b"}]}
    )
    config = load_inference_config(path, ["ckpt_path=null", "seed=7", "person=1"])
    assert config.ckpt_path is None
    assert (config.test_case[0].seed, config.test_case[0].person) == (7, 1)


def test_what_is_said_of_one_case_counts_more_than_what_is_said_of_all(tmp_path):
    case = {"ref_image_path": "a.png", "ref_video_path": "b.mp4"}
    path = write(tmp_path, {"test_case": [case, case]})
    for overrides in (["num_inference_steps=1", "test_case.0.num_inference_steps=5"],
                      ["test_case.0.num_inference_steps=5", "num_inference_steps=1"]):  # fmt: skip
        config = load_inference_config(path, overrides)
        assert [each.num_inference_steps for each in config.test_case] == [5, 1]
    config = load_inference_config(path, ["num_frames=9", "test_case.1.tile_size=7"])
    assert [each.tile_size for each in config.test_case] == [9, 7]


def test_names_that_some_system_refuses_are_refused_and_derived_ones_are_made_safe(tmp_path):
    case = {"ref_image_path": "me?.png", "ref_video_path": "2024-05-01T12:30:00.mp4"}
    config = load_inference_config(write(tmp_path, {"test_case": [case, case]}))
    assert config.case_names() == ["2024-05-01T12_30_00_me_", "2024-05-01T12_30_00_me__2"]
    long = {"ref_image_path": "舞" * 70 + ".png", "ref_video_path": "x" * 200 + ".mp4"}
    made = load_inference_config(write(tmp_path, {"test_case": [long, long]})).case_names()
    assert len(set(made)) == 2
    assert max(len(name.encode()) for name in made) <= 180
    for name, message in (
        ("take:1", "not every system takes"),
        ("con", "a device"),
        ("x" * 250, "250 bytes"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_inference_config(write(tmp_path, {"test_case": [{**case, "name": name}]}))
    with pytest.raises(ConfigError, match="'Dance' and 'dance'"):
        load_inference_config(
            write(tmp_path, {"test_case": [{**case, "name": "Dance"}, {**case, "name": "dance"}]})
        )


def test_two_names_of_one_setting_in_one_place_are_refused(tmp_path):
    case = {"ref_image_path": "a.png", "ref_video_path": "b.mp4", "num_frames": 72, "tile_size": 4}
    with pytest.raises(
        ConfigError, match="num_frames is 72 and tile_size is 4, but both name the same setting"
    ):
        load_inference_config(write(tmp_path, {"test_case": [case]}))


def test_a_path_that_yaml_read_as_a_number_is_told_to_be_quoted(tmp_path):
    case = {"ref_image_path": 2024, "ref_video_path": "b.mp4"}
    with pytest.raises(ConfigError, match=r"ref_image_path is 2024; .* put it in quotes"):
        load_inference_config(write(tmp_path, {"test_case": [case]}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: " + "[" * 1500 + "]" * 1500, "nested too deeply|exceeded maximum nesting depth"),
        ("seed: !!int x", "is not valid YAML: invalid literal for int"),
        ("seed: " + "9" * 6000, "is not valid YAML: Exceeds the limit"),
        ("seed: !!float x", "is not valid YAML: could not convert"),
        (
            "seed: !!python/object/apply:os.system [ls]",
            "is not valid YAML: could not determine a constructor",
        ),
    ],
    ids=["nested", "no whole number", "too many digits", "no number", "code"],
)
def test_yaml_that_python_cannot_read_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        load_inference_config(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value).replace(str(tmp_path), "")) < 200


def test_a_result_larger_than_memory_is_refused_by_its_size(released: Path) -> None:
    with pytest.raises(ConfigError, match="resolution is 100000; expected 8192 or less"):
        load_inference_config(released, ["resolution=100000"])
