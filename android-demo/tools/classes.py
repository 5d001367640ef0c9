"""Sources to class files: Kotlin and the generated R.java, as Java 8, so that API 24 and both dexers take them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from downloads import fetch, fetch_one
from steps import BUILD, JDK, PROJECT, Stamp, emptied, files_under, java, run, tool

from skinedge.system.progress import note

MAIN = (PROJECT / "core" / "src" / "main" / "kotlin", PROJECT / "app" / "src" / "main" / "kotlin")
FLAGS = (
    "-no-stdlib",
    "-no-reflect",
    "-jvm-target=1.8",
    "-Xjdk-release=8",
    "-Xnullability-annotations=@android.annotation:ignore",
    # dx knows no invokedynamic
    "-Xlambdas=class",
    "-Xsam-conversions=class",
    "-Xstring-concat=inline",
)


def tflite_classes() -> list[Path]:
    """The Java side of the inference library, out of its AARs."""
    return [_unpacked(aar, "classes.jar", BUILD / f"{aar.stem}.jar") for aar in fetch("tflite")]


def libraries() -> list[Path]:
    """What is packed into the app beside its own classes."""
    return [*tflite_classes(), fetch_one("kotlin-stdlib")]


def compile_resources_class(generated: Path) -> Path:
    """R.java, as aapt2 wrote it, as a jar."""
    return compile_java(generated, [], BUILD / "r.jar")


def compile_java(sources: Path, classpath: Sequence[Path], jar: Path) -> Path:
    """A folder of Java sources to a jar. Left as it is where nothing has changed."""
    files = files_under(sources)
    stamp = Stamp(jar, [*files, *classpath])
    if not stamp.is_current():
        out = emptied(BUILD / f"{jar.stem}-classes")
        joined = ":".join(str(path) for path in [out, *classpath])
        javac, archiver = (tool(name, JDK) for name in ("javac", "jar"))
        run([javac, "--release", "8", "-Xlint:-options", "-cp", joined, "-d", out, *files])
        run([archiver, "--create", "--file", jar, "-C", out, "."])
        stamp.set()
    return jar


def compile_app(r_jar: Path) -> Path:
    """The app's and its core's classes as a jar, against the Android API and nothing else."""
    return compile_kotlin(MAIN, [fetch_one("android"), *libraries(), r_jar], BUILD / "app.jar")


def compile_kotlin(sources: Sequence[Path], classpath: Sequence[Path], jar: Path) -> Path:
    """Folders of Kotlin sources to a jar; a warning is an error. Left as it is where nothing has changed."""
    stamp = Stamp(jar, [*files_under(*sources), *classpath], *FLAGS)
    if not stamp.is_current():
        note(f"compiling {jar.name}")
        jar.parent.mkdir(parents=True, exist_ok=True)
        jar.unlink(missing_ok=True)
        joined = ":".join(str(path) for path in classpath)
        compiler = [*fetch("kotlin"), fetch_one("kotlin-stdlib")]
        main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
        java(compiler, main, *FLAGS, "-Werror", "-classpath", joined, "-d", jar, *sources)
        stamp.set()
    return jar


def _unpacked(archive: Path, member: str, out: Path) -> Path:
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as opened:
            out.write_bytes(opened.read(member))
    return out


def native_library(abi: str) -> Path:
    """libtensorflowlite_jni.so of an ABI, as the AAR has it. abi: arm64-v8a, armeabi-v7a, x86 or x86_64."""
    aar = fetch("tflite")[0]
    return _unpacked(aar, f"jni/{abi}/libtensorflowlite_jni.so", BUILD / "jni" / abi / "libtensorflowlite_jni.so")
