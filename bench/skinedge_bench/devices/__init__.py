"""Benchmarks on other devices: hosts over SSH, Android phones over ADB."""
