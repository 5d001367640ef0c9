# Prints this host's properties as lines 'name value'. $1: the Python to look for; $2: our folder.
# Removes jobs left behind more than a day ago.
export LC_ALL=C
mkdir -p "$2" && find "$2" -maxdepth 1 -name 'job-*' -mtime +0 -exec rm -rf {} + 2>/dev/null
echo "machine $(uname -m)"
echo "free $(df -Pk "$2" 2>/dev/null | awk 'NR == 2 { print $4 }')"
for venv in "$2"/venv-*/bin/python; do
  [ ! -x "$venv" ] || echo "kept $(basename "$(dirname "$(dirname "$venv")")")"
done
python=$(command -v "$1") || exit 0
echo "python $python"
"$python" -c 'import struct, sys
print("version %d.%d" % sys.version_info[:2])
print("bits %d" % (8 * struct.calcsize("P")))' </dev/null
