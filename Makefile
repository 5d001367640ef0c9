# Targets: demo | test | check | docs | cli-page | pictures | browser | web | mediapipe | hashes | licenses | sbom | test-range | pi | sshd |
# minisign | android-tools | apk | android-test | cross-check | converters | collapse | bench-device | bench-table |
# bench-train | gpu-check | platforms | throughput | choices | target | seeds | flagship | fuzz | matrix | faults | clean. Each
# works alone from a clean clone; the first one installs everything into .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO_DATA := .cache/demo-images
MEDIAPIPE := .cache/mediapipe

.PHONY: demo test test-models test-rest check docs cli-page pictures browser web mediapipe hashes licenses sbom test-range pi sshd minisign android-tools apk android-test cross-check converters collapse bench-device bench-table bench-train gpu-check platforms throughput choices target seeds flagship faults clean

demo: $(READY)
	test -d $(DEMO_DATA) || $(BIN)/skinedge data synth $(DEMO_DATA)
	$(BIN)/skinedge run --data $(DEMO_DATA) --out runs/demo --config demo.toml --force

# Two processes with one thread each, for a machine with two cores; the output of each appears when it ends. Two threads
# each take 1.4 times as long.
test: $(READY)
	$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target test-models test-rest

test-models test-rest: export OMP_NUM_THREADS ?= 1

test-models: $(READY)
	$(BIN)/python -m pytest tests/export tests/bench tests/experiments

test-rest: $(READY)
	$(BIN)/python -m pytest tests --ignore=tests/export --ignore=tests/bench --ignore=tests/experiments

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Make the pictures of README and docs/ with Chromium: docs/images.
pictures: $(READY) web
	$(BIN)/python -m experiments.pictures

# Build the site of docs/ into .cache/site; a broken link or anchor is an error.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet
	@echo "open .cache/site/index.html"

# Write the reference of the commands in docs/cli.md from the command line's own help.
cli-page: $(READY)
	$(BIN)/python -m experiments.cli_page

# The Chromium of tests/browser: Debian's package, which saves Playwright's own download.
browser:
	@command -v chromium >/dev/null || test "$$(id -u)" = 0 || \
	  { echo "tests/browser needs Chromium; install it with: sudo apt-get install chromium" >&2; exit 1; }
	command -v chromium >/dev/null || { apt-get update -q && \
	  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends chromium; }

# The libraries from npm that run a model in the page of `skinedge web`, into the skinedge of .venv, as it is installed.
web: $(BIN)/python
	$(BIN)/python -m skinedge_bench.web.assets

$(BIN)/python:
	$(MAKE) $(READY)

# Test the exported .tflite files in MediaPipe, in a separate environment, because MediaPipe's and grad-cam's OpenCV
# packages install the same files. SKINEDGE_MEDIAPIPE: the Python of another such environment.
mediapipe: $(MEDIAPIPE)/.ready
	$(BIN)/python -m pytest tests/pipeline/test_mediapipe.py

$(MEDIAPIPE)/.ready: $(READY) bench/experiments/mediapipe.txt
	$(BIN)/uv venv --clear --python $(BIN)/python $(MEDIAPIPE)
	VIRTUAL_ENV=$(MEDIAPIPE) $(BIN)/uv pip install --require-hashes --requirement bench/experiments/mediapipe.txt
	touch $@

# Lock the packages that skinedge installs itself, with the sha256 of their files for all platforms. Run it after a change
# of constraints.txt or pyproject.toml.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
  --generate-hashes
hashes: $(READY)
	$(COMPILE) --constraint constraints.txt pyproject.toml --output-file bench/skinedge_bench/devices/on_host/requirements.txt
	echo mediapipe==1.2.3 | $(COMPILE) --constraint constraints.txt - --output-file bench/experiments/mediapipe.txt
	echo cyclonedx-bom==7.3.0 | $(COMPILE) - --output-file bench/experiments/sbom.txt
	$(COMPILE) --no-deps export/skinedge_export/formats/onnx2tf/pins.txt --output-file export/skinedge_export/formats/onnx2tf/hashes.txt

# Run a short pipeline with the lowest and with the newest versions that pyproject.toml allows. Takes about 15 minutes on
# 2 cores and 7 GB of disk, so it is not part of .ci/run. ARGS="lowest" or ARGS="newest" for one of them.
test-range: $(READY)
	$(BIN)/python -m experiments.version_range $(ARGS)

# Write docs/licenses.md, the licence of every package that each extra installs; fails if one is not allowed or not known.
licenses: $(READY)
	$(BIN)/python -m experiments.licenses

# Write a CycloneDX SBOM of the environment to .cache/sbom.json, with CycloneDX's own tool in a separate environment.
sbom: $(READY) .cache/sbom/.ready
	.cache/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
	  --output-file .cache/sbom.json $(BIN)/python

.cache/sbom/.ready: $(READY) bench/experiments/sbom.txt
	$(BIN)/uv venv --clear --python $(BIN)/python .cache/sbom
	VIRTUAL_ENV=.cache/sbom $(BIN)/uv pip install --require-hashes --requirement bench/experiments/sbom.txt
	touch $@

# Test the base install and the shipped model on three emulated Raspberry Pi cores (qemu, Debian's arm64 Python, aarch64
# wheels; downloads 110 MB into .cache/pi the first time). Skipped, with a message, if Debian's archive is unreachable.
pi: $(READY)
	$(BIN)/python tests/pi/prove.py

# The sshd that the tests of `bench --host` start, on a free port.
sshd:
	command -v sshd >/dev/null || test -x /usr/sbin/sshd || { apt-get update -q && \
	  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends openssh-server; }

# Debian's minisign, with which the tests check our signatures.
minisign:
	command -v minisign >/dev/null || { apt-get update -q && \
	  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends minisign; }

# Debian's tools that build the Android app. Without one of them, `make apk` and `make android-test` are skipped with a
# message.
ANDROID_TOOLS := javac mvn aapt aapt2 apksigner zipalign gcc objdump aarch64-linux-gnu-gcc
android-tools:
	@for tool in $(ANDROID_TOOLS); do command -v $$tool >/dev/null || missing=1; done; \
	  test -z "$$missing" || { apt-get update -q && apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends \
	  openjdk-17-jdk-headless maven aapt apksigner zipalign gcc libc6-dev binutils gcc-aarch64-linux-gnu libc6-dev-arm64-cross; }

# `apk` builds the Android app. `android-test` tests its classes on this machine's JVM with Android's own TFLite, and the
# arm64 TFLite on emulated cores (with the emulator of `make pi`); see android-demo/README.md.
# ABIS="arm64-v8a armeabi-v7a x86_64" for more devices, DEXER=proguard to build without R8.
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

# Compare both TFLite converters on four networks. Installs TensorFlow into a separate cache the first time (1.6 GB).
cross-check: $(READY)
	SKINEDGE_CROSS_CHECK=1 $(BIN)/python -m pytest tests/export/formats/test_onnx2tf.py $(ARGS)

# Compare conversion time and latency of both TFLite converters: converters ARGS="RUN --data DIR".
converters: $(READY)
	$(BIN)/python -m experiments.converters $(ARGS)

# Train a backbone that int8 is known to break, for the precision search: collapse ARGS="--backbone NAME".
collapse: $(READY)
	$(BIN)/python -m experiments.collapse $(ARGS)

# Add or update a device in README's latency tables, on an idle machine: bench-device DEVICE=NAME; RUN=DIR for another run
# than the newest, ARGS for options of `skinedge bench`.
bench-device: $(READY)
	@test -n "$(DEVICE)" || { echo "name the device: make bench-device DEVICE=NAME" >&2; exit 1; }
	$(BIN)/skinedge bench $(RUN) --out bench/results/$(DEVICE).json $(ARGS)

# Run the commands on mutated inputs of every kind: fuzz ARGS="--count N --seed S --keep DIR --json FILE". The first call
# trains a small run to mutate into .cache/fuzz (about 4 minutes on one core).
.PHONY: fuzz
fuzz: $(READY) web
	$(BIN)/python -m experiments.fuzz $(ARGS)

# Try inputs, options and machines beside the usual ones, each with an expected outcome; takes up to 60 minutes on 2 cores.
# MATRIX_SEED=n draws other mutations and pairs, PART=tables,images chooses parts; ARGS="--json FILE --keep DIR".
.PHONY: matrix
matrix: $(READY)
	$(BIN)/python -m experiments.matrix $(ARGS)

# Write README's latency tables from the reports in bench/results.
bench-table: $(READY)
	$(BIN)/python -m experiments.tables

# Compare training speed with a plain peft and timm loop: bench-train ARGS="--data DIR --out FILE.json".
bench-train: $(READY)
	$(BIN)/python -m experiments.train_speed $(ARGS)

# Check training on a GPU in a few minutes: train, interrupt, resume, export, verify; prints a table for docs/log.md.
gpu-check: $(READY)
	$(BIN)/python -m experiments.gpu_check $(ARGS)

# Write docs/platforms.md: which extras install on which platform and Python, as uv resolves them, with wheels only.
platforms: $(READY)
	$(BIN)/python -m experiments.platforms $(ARGS)

# Time predict and evaluate on 10,000 images, on one and on all cores: throughput ARGS="--data DIR --images N --out FILE.json".
throughput: $(READY)
	$(BIN)/python -m experiments.throughput $(ARGS)

# Compare training settings on training images: choices ARGS="NAME... --seeds N --out FILE.json".
choices: $(READY)
	$(BIN)/python -m experiments.choices $(ARGS)

# Train and evaluate an accuracy target: ROW=dermamnist-lesion-free | dermamnist-official | external | folds, options in ARGS.
# The same command resumes after an interruption. external needs .cache/flagship-images, which `make flagship` makes first.
target: $(READY)
	$(BIN)/python -m experiments.targets $(ROW) $(ARGS)

# Repeat `skinedge run` with several seeds: seeds ARGS="--data DIR --seeds 0-9 --out FOLDER". The same command resumes after
# an interruption.
seeds: $(READY)
	$(BIN)/python -m experiments.seeds $(ARGS)

# Train, export, verify, benchmark, evaluate and package the shipped model. Takes about 45 minutes on 2 cores; the same
# command resumes after an interruption.
flagship: $(READY)
	$(BIN)/python -m experiments.flagship .cache/flagship-images
	$(BIN)/skinedge run --data .cache/flagship-images --config bench/experiments/flagship.toml --out runs/flagship --resume
	$(BIN)/skinedge export runs/flagship --format tflite --precision int8 --heatmap --data .cache/flagship-images
	$(BIN)/skinedge verify runs/flagship --data .cache/flagship-images
	$(BIN)/skinedge evaluate runs/flagship --file model.int8.tflite --split test --out runs/flagship-evaluation --force
	$(BIN)/skinedge ship runs/flagship --to skinedge/flagship --evaluation runs/flagship-evaluation --force

# Kill every command that writes files, or fail its filesystem calls: faults ARGS="--count N --seed S". Takes up to
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
