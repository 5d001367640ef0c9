"""A stand-in for `adb` and a phone, with a folder as its storage; run as the program `adb`.

It logs every call (calls.jsonl), stores pushed files, and answers like a phone. `phone.json` beside it configures the
phone and its failures: {"failure": ..., "median": true, "cores": 8, ...}.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
PACKAGE = "org.skinedge.demo"
NO_PHONE = {
    "none": "adb: no devices/emulators found",
    "unauthorized": "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nOtherwise check for a "
    "confirmation dialog on your device.",
    "several": "error: more than one device/emulator",
    "offline": "error: device offline",
    "other": "error: device 'ABC' not found",
}


def main(words: list[str]) -> None:
    phone = json.loads((HERE / "phone.json").read_text())
    with (HERE / "calls.jsonl").open("a") as log:
        log.write(json.dumps(words) + "\n")
    if words[0] == "-s":
        words = words[2:]
    if phone.get("failure") in NO_PHONE:
        fail(NO_PHONE[phone["failure"]])
    if words == ["get-state"]:
        print(phone.get("state", "device"))
    elif words[0] == "push":
        push(phone, Path(words[1]), words[2])
    elif words[0] == "exec-out":
        run(phone, words[1:])
    elif words[0] == "shell":
        run(phone, shlex.split(" ".join(words[1:])))
    else:
        fail(f"adb: unknown command {words[0]}")


def stored(path: str) -> Path:
    return HERE / "storage" / path.lstrip("/")


def push(phone: dict, path: Path, to: str) -> None:
    if str(path).startswith("-"):
        fail(f"adb: unrecognized option '{path}'")
    if phone.get("failure") == "full":
        fail(f"adb: error: failed to copy '{path}' to '{to}': remote couldn't create file: No space left on device")
    shutil.copyfile(path, stored(to))
    if phone.get("failure") == "damaged":
        stored(to).write_bytes(b"half")
    print(f"{path}: 1 file pushed, 0 skipped.")


def run(phone: dict, words: list[str]) -> None:
    if words[0] == "run-as":
        assert words[1] == PACKAGE
        if phone.get("failure") in (
            "run-as: unknown package: " + PACKAGE,
            "run-as: package not debuggable: " + PACKAGE,
        ):
            fail(phone["failure"])
        folder = HERE / "storage" / "app"
        words = [words[2], *(str(folder / w) if w.startswith("files/") else w for w in words[3:])]
        words = [w.replace(str(HERE / "storage"), "") for w in words]
    if words[0] == "mkdir":
        stored(words[2]).mkdir(parents=True, exist_ok=True)
    elif words[0] == "rm":
        for path in map(stored, words[2:]):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    elif words[0] == "cp":
        if phone.get("failure") == "app full" and words[1].endswith("/model.int8.tflite"):
            fail(f"cp: xwrite: {words[2]}: No space left on device")
        shutil.copyfile(stored(words[1]), stored(words[2]))
    elif words[0] == "chmod":
        assert stored(words[2]).is_file()
    elif words[0] == "sha256sum":
        print(hashlib.sha256(stored(words[1]).read_bytes()).hexdigest(), "", words[1])
    elif words[0].endswith("/benchmark_model"):
        benchmark(phone, words)
    elif words[:2] == ["am", "start"]:
        start(phone, words)
    elif words[0] == "pidof":
        sys.exit(0 if (HERE / "running").exists() else 1)
    elif words[0] == "cat" and words[1].startswith("/app/"):
        cat(stored(words[1]))
    else:
        query(phone, words)


def query(phone: dict, words: list[str]) -> None:
    answers = {
        "getprop ro.product.manufacturer": "Maker",
        "getprop ro.product.model": "Phone 9",
        "getprop ro.soc.model": "SoC 1",
        "getprop ro.build.version.release": "15",
        "getprop ro.boot.qemu": "1" if phone.get("emulator") else "",
        "uname -m": "aarch64",
        "nproc": str(phone.get("cores", 8)),
        "cat /proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\n",
        "dumpsys battery": "  AC powered: false\n  USB powered: true\n",
        "dumpsys thermalservice": f"IsStatusOverride: false\nThermal Status: {phone.get('thermal', 0)}\n",
    }
    text = " ".join(words)
    if text not in answers:
        fail(f"/system/bin/sh: {text}: inaccessible or not found")
    print(answers[text])


def benchmark(phone: dict, words: list[str]) -> None:
    """Print the output of TFLite's tool: statistics of the warm-up, of the inferences, then a summary."""
    assert stored(words[0]).is_file()
    options = dict(word[2:].split("=", 1) for word in words[1:])
    assert stored(options["graph"]).is_file(), "no such model on the phone"
    if phone.get("failure") == "crash":
        print("STARTING!", file=sys.stderr)
        fail("Segmentation fault", 139)
    if phone.get("failure") == "odd":
        print("STARTING!\nThat was that.")
        return
    count = int(options["num_runs"])
    base = (4000 if "int8" in options["graph"] else 9000) / int(options["num_threads"])
    calls = len((HERE / "calls.jsonl").read_text().splitlines())
    median = f" p5={base - 50} median={base + calls % 5} p95={base + 90}" if phone.get("median") else ""
    print(f"count={options['warmup_runs']} first=20000 curr=9 min=9 max=20000 avg=9999 std=1")
    print(f"count={count} first={base} curr={base} min={base - 90} max={base + 99} avg={base + 10} std=12{median}")
    print(
        f"Inference timings in us: Init: 5000, First inference: 20000, Warmup (avg): 9999, Inference (avg): {base + 10}"
    )


def start(phone: dict, words: list[str]) -> None:
    if phone.get("failure") == "no activity":
        print(f"Starting: Intent\nError type 3\nError: Activity class {{{words[5]}}} does not exist.")
        return
    extras = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word in ("--es", "--ei")}
    (HERE / "extras.json").write_text(json.dumps(extras))
    if phone.get("failure") == "app crashed":
        return
    if phone.get("failure") == "app hangs":
        (HERE / "running").touch()
        return
    answer: dict = {"request": extras["request"]}
    if phone.get("failure") == "app error":
        answer["error"] = "model.int8.tflite: not a model"
    else:
        rows, samples = [], {}
        for file in extras["models"].split(","):
            assert (HERE / "storage" / "app" / "files" / "benchmark" / file).is_file()
            for threads in map(int, extras["threads"].split(",")):
                rows.append(
                    {"file": file, "threads": threads, "load_ms": 5, "first_inference_ms": 9, "peak_rss_mib": 70}
                )
                key = f"litert {file}" + (f", {threads} threads" if threads > 1 else "")
                base = (4 if "int8" in file else 8) / threads
                block = [base + index / 1000 for index in range(int(extras["block"]))]
                samples[key] = [block] * int(extras["blocks"])
        answer |= {"rows": rows, "samples_ms": samples, "versions": {"tensorflow-lite": "2.16.1"}}
        if phone.get("failure") == "app odd":
            del answer["samples_ms"]
    (HERE / "storage" / "app" / "files" / "benchmark.json").write_text(json.dumps(answer))
    (HERE / "running").touch()


def cat(path: Path) -> None:
    """Print a file; the first time, as if it were half-written."""
    if not path.is_file():
        fail("cat: No such file or directory")
    seen = HERE / "seen"
    print(path.read_text() if seen.exists() else path.read_text()[:20])
    seen.touch()


def fail(text: str, code: int = 1) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
