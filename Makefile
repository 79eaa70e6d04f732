# make demo    install (the first time) and make the bundled character dance: outputs/demo_side_by_side.mp4, outputs/demo.png
# make test    the tests (those marked slow or gpu left out)
# make browser the tests of the studio and the reports in Chromium (Debian: apt-get install chromium)
# make lint    ruff, mypy, import-linter
# make site    the documentation, with its links checked: build/site/index.html
# make bench   speed on this CPU, the released way beside ours (at most 10 minutes)
# make compare models side by side on rendered dancers: outputs/compare/synthetic/report.html
# make ablation  what each idea brings, by small trainings (an hour; goes on where it was): docs/ablation.md
#
# All else is optional: `make demo PYTHON=python3.12 ARGS="seed=3"`. Without make (Windows): `python dev.py demo`.

PYTHON ?= python3

.PHONY: demo test browser lint site bench ablation compare install

demo test browser lint site bench ablation compare install:
	@$(PYTHON) dev.py $@ $(ARGS)
