# make demo | test | check | browser | web | mediapipe | hashes | licenses | sbom | test-range | pi | sshd | minisign | android-tools | apk | android-test | cross-check | converters | collapse | bench-device | bench-table | bench-train | throughput | choices | target | seeds | flagship: each works alone from a clean clone; set-up happens once, into .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO_DATA := .cache/demo-images
MEDIAPIPE := .cache/mediapipe

.PHONY: demo test test-models test-rest check browser web mediapipe hashes licenses sbom test-range pi sshd minisign android-tools apk android-test cross-check converters collapse bench-device bench-table bench-train throughput choices target seeds flagship faults clean

demo: $(READY)
	test -d $(DEMO_DATA) || $(BIN)/skinedge data synth $(DEMO_DATA)
	$(BIN)/skinedge run --data $(DEMO_DATA) --out runs/demo --config demo.toml --force

# In two processes of one thread, one for each core of a small machine: what one prints comes when it has ended. Two
# processes of two threads each take 1.4 times as long.
test: $(READY)
	$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target test-models test-rest

test-models test-rest: export OMP_NUM_THREADS ?= 1

test-models: $(READY)
	$(BIN)/python -m pytest tests/export tests/bench

test-rest: $(READY)
	$(BIN)/python -m pytest tests --ignore=tests/export --ignore=tests/bench

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The Chromium that tests/browser opens pages in: Debian's package, since Playwright's own download is not needed then.
browser:
	@command -v chromium >/dev/null || test "$$(id -u)" = 0 || \
	  { echo "tests/browser needs Chromium; install it with: sudo apt-get install chromium" >&2; exit 1; }
	command -v chromium >/dev/null || { apt-get update -q && \
	  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends chromium; }

# The libraries that run a model in the page of `skinedge web`, from npm.
web: $(READY)
	$(BIN)/python -m skinedge_bench.web.assets

# MediaPipe, which the exported .tflite files are tried in: an environment of its own, since the OpenCV that it brings
# has the same files as the one that grad-cam brings. SKINEDGE_MEDIAPIPE names the Python of another such environment.
mediapipe: $(MEDIAPIPE)/.ready
	$(BIN)/python -m pytest tests/pipeline/test_mediapipe.py

$(MEDIAPIPE)/.ready: $(READY) bench/experiments/mediapipe.txt
	$(BIN)/uv venv --clear --python $(BIN)/python $(MEDIAPIPE)
	VIRTUAL_ENV=$(MEDIAPIPE) $(BIN)/uv pip install --require-hashes --requirement bench/experiments/mediapipe.txt
	touch $@

# The packages that this project installs by itself, each with the sha256 of its files for all platforms: after a change of
# constraints.txt or pyproject.toml.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
  --generate-hashes
hashes: $(READY)
	$(COMPILE) --constraint constraints.txt pyproject.toml --output-file bench/skinedge_bench/devices/on_host/requirements.txt
	echo mediapipe==1.2.3 | $(COMPILE) --constraint constraints.txt - --output-file bench/experiments/mediapipe.txt
	echo cyclonedx-bom==7.3.0 | $(COMPILE) - --output-file bench/experiments/sbom.txt
	$(COMPILE) --no-deps export/skinedge_export/formats/onnx2tf/pins.txt --output-file export/skinedge_export/formats/onnx2tf/hashes.txt

# A short pipeline with the lowest and with the newest versions that pyproject.toml allows: about 15 minutes on 2 cores and
# 7 GB of disk, so it is no part of .ci/run. ARGS="lowest" or "newest" for one of them.
test-range: $(READY)
	$(BIN)/python -m experiments.version_range $(ARGS)

# docs/licenses.md: the licence of every package that each extra brings; fails on one that is not allowed, or not known.
licenses: $(READY)
	$(BIN)/python -m experiments.licenses

# What is installed, as a CycloneDX SBOM in .cache/sbom.json, by CycloneDX's own tool in an environment of its own.
sbom: $(READY) .cache/sbom/.ready
	.cache/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
	  --output-file .cache/sbom.json $(BIN)/python

.cache/sbom/.ready: $(READY) bench/experiments/sbom.txt
	$(BIN)/uv venv --clear --python $(BIN)/python .cache/sbom
	VIRTUAL_ENV=.cache/sbom $(BIN)/uv pip install --require-hashes --requirement bench/experiments/sbom.txt
	touch $@

# The base install and the shipped model on three emulated Raspberry Pi cores (qemu, Debian's arm64 Python, aarch64 wheels;
# 110 MB are downloaded the first time, into .cache/pi). Skips, and says so, where Debian's archive is out of reach.
pi: $(READY)
	$(BIN)/python tests/pi/prove.py

# A host for the tests of `bench --host`: they start this sshd themselves, on a port of their own.
sshd:
	command -v sshd >/dev/null || test -x /usr/sbin/sshd || { apt-get update -q && \
	  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends openssh-server; }

# Debian's minisign, which the tests hold our signatures against.
minisign:
	command -v minisign >/dev/null || { apt-get update -q && \
	  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends minisign; }

# What builds the Android app, from Debian; without one of them `make apk` and `make android-test` skip, and say so.
ANDROID_TOOLS := javac mvn aapt aapt2 apksigner zipalign gcc objdump aarch64-linux-gnu-gcc
android-tools:
	@for tool in $(ANDROID_TOOLS); do command -v $$tool >/dev/null || missing=1; done; \
	  test -z "$$missing" || { apt-get update -q && apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends \
	  openjdk-17-jdk-headless maven aapt apksigner zipalign gcc libc6-dev binutils gcc-aarch64-linux-gnu libc6-dev-arm64-cross; }

# The Android app as an APK; its classes on this machine's JVM with Android's own TFLite, and the phone's arm64 TFLite on
# emulated cores (the emulator is that of `make pi`); see android-demo/README.md.
# ABIS="arm64-v8a armeabi-v7a x86_64" for more devices, DEXER=proguard as where R8 cannot be had.
ABIS ?= arm64-v8a
DEXER ?=
APK := .cache/android/skinedge-demo.apk

apk: $(READY)
	$(BIN)/python android-demo/tools/apk.py --out $(APK) --abi $(ABIS) $(if $(DEXER),--dexer $(DEXER))
	test ! -f $(APK) || SKINEDGE_APK=$(APK) SKINEDGE_DEXER=$(DEXER) $(BIN)/python -m pytest tests/android/test_apk.py

android-test: $(READY)
	$(BIN)/python android-demo/tools/desktop.py
	$(BIN)/python tests/pi/emulator.py
	SKINEDGE_GOLDEN=all $(BIN)/python -m pytest -rs tests/android/test_desktop.py tests/android/test_screens.py \
	  tests/android/test_arm64.py

# Both TFLite converters on four networks. The first time, TensorFlow is installed into a cache of its own (1.6 GB).
cross-check: $(READY)
	SKINEDGE_CROSS_CHECK=1 $(BIN)/python -m pytest tests/export/formats/test_onnx2tf.py $(ARGS)

# How long each converter takes, and how fast what it makes is: converters ARGS="RUN --data DIR".
converters: $(READY)
	$(BIN)/python -m experiments.converters $(ARGS)

# A backbone that int8 is known to break, trained on real images, and where the ladder ends: collapse ARGS="--backbone NAME".
collapse: $(READY)
	$(BIN)/python -m experiments.collapse $(ARGS)

# One more device in README's latency tables, or its figures anew, on a quiet machine: bench-device DEVICE=NAME, with
# RUN=DIR for another run than the newest and ARGS for options of `skinedge bench`.
bench-device: $(READY)
	@test -n "$(DEVICE)" || { echo "name the device: make bench-device DEVICE=NAME" >&2; exit 1; }
	$(BIN)/skinedge bench $(RUN) --out bench/results/$(DEVICE).json $(ARGS)

# Mutated inputs of every kind through the real commands: fuzz ARGS="--count N --seed S --keep DIR --json FILE". The first
# time, a small run is trained to mutate (some 4 minutes of one core), into .cache/fuzz.
.PHONY: fuzz
fuzz: web
	$(BIN)/python -m experiments.fuzz $(ARGS)

# README's latency tables, from the reports in bench/results.
bench-table: $(READY)
	$(BIN)/python -m experiments.tables

bench-train: $(READY)
	$(BIN)/python -m experiments.train_speed $(ARGS)

# predict and evaluate on 10,000 images, on one core and on all: throughput ARGS="--data DIR --images N --out FILE.json".
throughput: $(READY)
	$(BIN)/python -m experiments.throughput $(ARGS)

choices: $(READY)
	$(BIN)/python -m experiments.choices $(ARGS)

# ROW=dermamnist-lesion-free | dermamnist-official | folds, options in ARGS; the same command goes on after an interruption.
target: $(READY)
	$(BIN)/python -m experiments.targets $(ROW) $(ARGS)

# The main job with one seed after another: seeds ARGS="--data DIR --seeds 0-9 --out FOLDER"; the same command goes on after
# an interruption.
seeds: $(READY)
	$(BIN)/python -m experiments.seeds $(ARGS)

# Trains, exports, verifies, times and judges the model that ships with the package, then packs it. About 45 minutes on
# 2 cores; after an interruption the same command goes on.
flagship: $(READY)
	$(BIN)/python -m experiments.flagship .cache/flagship-images
	$(BIN)/skinedge run --data .cache/flagship-images --config bench/experiments/flagship.toml --out runs/flagship --resume
	$(BIN)/skinedge export runs/flagship --format tflite --precision int8 --heatmap --data .cache/flagship-images
	$(BIN)/skinedge verify runs/flagship --data .cache/flagship-images
	$(BIN)/skinedge evaluate runs/flagship --file model.int8.tflite --split test --out runs/flagship-evaluation
	$(BIN)/skinedge ship runs/flagship --to skinedge/flagship --evaluation runs/flagship-evaluation --force

# Kills and injected errors at the filesystem calls of every command that writes: faults ARGS="--count N --seed S". Up to
# 60 minutes on 2 cores.
faults: $(READY)
	$(BIN)/python -m experiments.faults $(ARGS)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "skinedge needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache
