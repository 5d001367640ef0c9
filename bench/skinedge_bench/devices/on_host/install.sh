# Creates an environment, unless it exists. $1: its folder; $2: the Python; the rest: requirements with their hashes.
# Created under another name, so that a folder of the final name is always complete.
venv=$1 python=$2 part=$1.part.$$
shift 2
[ -x "$venv/bin/python" ] && exit 0
trap 'rm -rf "$part"' EXIT
trap 'exit 1' HUP INT TERM
rm -rf "$venv" "$venv".part.*
"$python" -m venv "$part" >&2 || exit 1
printf '%s\n' "$@" >"$part/requirements.txt" || exit 1
"$part/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-cache-dir --no-compile \
  --only-binary=:all: --require-hashes --requirement "$part/requirements.txt" >&2 || exit 1
mv "$part" "$venv"
