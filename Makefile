# Two commands are enough on a fresh machine: `make` and `make test`. Both first build .venv from the lock.
.DEFAULT_GOAL := repro
.PHONY: ants_bees bench-accuracy bench-assemble bench-data bench-extract bench-finetune bench-gpu bench-head bench-index bench-labelling bench-loop bench-predict bench-report bench-review bench-serve bench-revisions bench-warm chaos check compare docs env git help lock repro review screenshot sweep test test-gpu test-quick tutorial wheel

PYTHON ?= python3.11
# DVC starts the stages as `python -m stages.<stage>`: this makes that `python` the right one.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

repro: git env data/digits  ## run the pipeline on the data set that params.yaml names and print the metrics (the default)
	dvc repro
	dvc metrics show

git:
	@test -e .git || { echo 'make: DVC needs a git repository, and this folder is none. Run: git init && git add --all && git commit --message "Start" && make'; exit 1; }

# No DVC stages: a data set that somebody does not use would make `dvc status` and `dvc pull` complain.
data/digits: | env
	python -m stages.datasets.digits

ants_bees: env  ## fetch the photos of PyTorch's tutorial into data/ants_bees (47 MB)
	python -m stages.datasets.ants_bees

# The recipe of PyTorch's transfer learning tutorial, to the letter, except that the last epoch is kept, the start, or a
# mean of both.
tutorial: git env ants_bees  ## fine-tune ResNet-18 on ants & bees as in PyTorch's tutorial (both are fetched)
	dvc exp run -S data.path=data/ants_bees -S backbone.name=resnet18 \
	  -S finetune.init=random -S finetune.unfreeze=all -S finetune.batch_norm=train \
	  -S finetune.epochs=25 -S finetune.batch=4 \
	  -S finetune.optimizer.kind=sgd -S finetune.optimizer.momentum=0.9 -S finetune.optimizer.weight_decay=0.0 \
	  -S finetune.optimizer.backbone_rate=0.001 -S finetune.optimizer.head_rate=0.001 \
	  -S finetune.optimizer.layer_decay=1.0 -S finetune.optimizer.clip=null \
	  -S finetune.schedule.kind=step -S finetune.schedule.step_epochs=7 -S finetune.schedule.gamma=0.1 \
	  -S finetune.schedule.warmup_epochs=0 -S finetune.augmentation.kind=crop -S finetune.augmentation.min_area=0.08 \
	  -S finetune.augmentation.mixup=0.0 -S finetune.label_smoothing=0.0 -S finetune.precision=float32

compare: env  ## is this revision really better than REV=<commit, branch, tag or experiment>? default: the last commit
	python -m headstart compare $(or $(REV),HEAD)

review: env  ## look at doubtful images in the browser and correct labels
	python -m headstart review

# In the workspace, one after the other: a copy (--temp, --queue) would lack the photos that git ignores.
sweep: git env data/digits  ## train a head on each of BACKBONES="name name ..." and rank them by cross-validation
	@test -n "$(BACKBONES)" || { echo 'make sweep: which? Run: make sweep BACKBONES="efficientnet_lite0 resnet18"'; exit 1; }
	@mkdir -p .cache && cp -n params.yaml .cache/params.before_sweep.yaml; rm -f .cache/sweep.json
	@trap 'mv .cache/params.before_sweep.yaml params.yaml' EXIT; trap 'exit 130' INT TERM; \
	  for name in $(BACKBONES); do \
	    dvc exp run -S backbone.name=$$name evaluate@head && python -m benchmarks.sweep --add || exit 1; done
	dvc repro --quiet evaluate@head
	@python -m benchmarks.sweep

# Threads of torch sleep while they wait. If they spun, two test processes on two cores would take several times as long.
test test-quick: export OMP_WAIT_POLICY = PASSIVE

test: env  ## run every test
	pytest --numprocesses 2 --dist worksteal --durations 15

test-quick: env  ## run the tests of the editing loop: no DVC, no browser, none that takes seconds
	pytest --numprocesses 2 --dist loadfile -m "not slow" tests/unit tests/contract

# MINUTES=60 goes on for longer, SEED=7 draws the same harm again.
chaos: env  ## ten minutes of random harm to a small project: edits, kills, full disks, flipped bits; a clean clone must agree
	python -W ignore -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

check: env  ## lint, formatting and types
	ruff check
	ruff format --check
	mypy

docs: env  ## build the documentation as a site, docs/_build/html/index.html
	sphinx-build --quiet --fail-on-warning --builder html docs docs/_build/html
	@echo 'docs: docs/_build/html/index.html'

screenshot: env  ## make the pictures of the report and the review page that the README shows
	python -m docs.screenshot

wheel: env  ## build the wheel, install it in a clean environment elsewhere and compare what it predicts
	rm -rf dist && uv build --quiet --wheel --out-dir dist
	python -m tests.support.wheel dist

env: .venv/installed  ## build .venv from the hashed lock

# pip only fetches uv, which installs the lock many times faster; both check every hash. Every stage is a process of its
# own: with the packages compiled here, importing timm takes 5 seconds instead of 13 where Python may not write bytecode.
.venv/installed: requirements.txt requirements-uv.txt
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --require-hashes --requirement requirements-uv.txt
	.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.txt requirements-uv.txt
	touch $@

# `make lock UPGRADE=--upgrade` also moves every package to its newest release.
lock: env  ## write requirements.txt and requirements-uv.txt anew from pyproject.toml
	echo uv | uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate $(UPGRADE) --output-file requirements-uv.txt -
	uv pip compile --quiet --universal --generate-hashes --custom-compile-command 'make lock' $(UPGRADE) --group pipeline --group dev --group docs --output-file requirements.txt pyproject.toml

# PHOTOS=<folder of JPEG photos> measures on those instead of generated ones, FEATURES=<file> with another spectrum.
bench-extract: env  ## extract against the tutorials' loop and its own engine; cost of 1 % new images
	python -W ignore -m benchmarks.extract $(if $(PHOTOS),--photos $(PHOTOS))
	python -W ignore -m benchmarks.extract $(if $(PHOTOS),--photos $(PHOTOS)) --megapixels 12 --num-photos 64 efficientnet_lite0

bench-warm: env  ## the whole stage on 10,000 photos, cold and with nothing new; memory
	python -W ignore -m benchmarks.warm $(if $(PHOTOS),--photos $(PHOTOS))

bench-assemble: env  ## a features file of 1,000,000 x 512 from shards; memory
	python -m benchmarks.assemble

bench-head: env  ## the head against LogisticRegressionCV and DINOv2's sweep on 50,000 x 1,280 x 100 classes; half an hour
	python -W ignore -m benchmarks.head $(if $(FEATURES),--features $(FEATURES))

bench-finetune: env  ## fine-tuning against the tutorial's loop
	python -W ignore -m benchmarks.finetune $(if $(PHOTOS),--photos $(PHOTOS))
	python -W ignore -m benchmarks.finetune $(if $(PHOTOS),--photos $(PHOTOS)) --megapixels 12 --num-photos 64 --batches 32 --backbones efficientnet_lite0

bench-accuracy: env  ## time to the same accuracy as fine-tuning, by the tutorial's recipe (PHOTOS=folder with train/ and val/)
	python -W ignore -m benchmarks.accuracy $(PHOTOS)

# PHOTOS=<folder of ants & bees>, SETS="path path" for folders of more data sets, HEAD="key=value" for another head,
# FINETUNING=<epochs> for the tutorial's fine-tuning (hours), SEEDS=<number of draws>.
bench-data: env data/digits  ## accuracy over the data sets at hand, against rivals on the same embeddings; a quarter of an hour
	python -W ignore -m benchmarks.data $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(SETS),--sets $(SETS)) $(if $(HEAD),--head $(HEAD)) $(if $(FINETUNING),--finetuning $(FINETUNING)) $(if $(SEEDS),--num-seeds $(SEEDS)) $(if $(BACKBONES),--backbones $(BACKBONES))

# PHOTOS=<folder of ants & bees>, SETS="path path" for folders of more data sets, SEEDS=<number of draws>.
bench-labelling: env data/digits  ## labels needed for an accuracy, by the order in which images are labelled
	python -W ignore -m benchmarks.labelling $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(SETS),--sets $(SETS)) $(if $(SEEDS),--num-seeds $(SEEDS))

bench-report: env  ## the report of 10,000 images: time, bytes, and how fast a browser opens it
	python -m benchmarks.report $(if $(PHOTOS),--photos $(PHOTOS))

bench-review: env data/digits  ## flipped labels found per image shown, seconds from a decision to new numbers, 100,000 images
	python -W ignore -m benchmarks.review $(if $(PHOTOS),--photos $(PHOTOS))
	python -W ignore -m benchmarks.review_page $(if $(PHOTOS),--photos $(PHOTOS))

bench-index: env  ## the index of 100,000 small photos, cold and with nothing new, against a plain loop; memory
	python -W ignore -m benchmarks.index $(if $(PHOTOS),--photos $(PHOTOS))
	python -W ignore -m benchmarks.index $(if $(PHOTOS),--photos $(PHOTOS)) --megapixels 12 --num-photos 200

bench-predict: env  ## predicting against extract on the same photos; the first photo of a process
	python -W ignore -m benchmarks.predict $(if $(PHOTOS),--photos $(PHOTOS))
	python -W ignore -m benchmarks.predict $(if $(PHOTOS),--photos $(PHOTOS)) --megapixels 12 --num-photos 64

bench-loop: env  ## `dvc repro` after an edit of head.*, and where each second goes
	python -m benchmarks.loop

bench-revisions: env  ## two revisions of this project compared, and 21 with 10,000 test images each: seconds
	python -m benchmarks.revisions

bench-serve: env  ## the server over loopback against the model itself: requests/s, latency, memory over 10,000 requests
	python -W ignore -m benchmarks.serve
	python -W ignore -m benchmarks.serve $(if $(PHOTOS),--photos $(PHOTOS)) --megapixels 12

bench-gpu: env  ## check and measure everything that runs on a GPU; at most nine minutes
	python -m benchmarks.gpu

test-gpu: env  ## the checks of bench-gpu alone
	python -m benchmarks.gpu --checks-only

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22
