# Prints the modules that a Python lacks, one per line. $1: the Python; the rest: modules.
python=$1
shift
exec "$python" -c 'import importlib.util, sys
for name in sys.argv[1:]:
    if importlib.util.find_spec(name) is None:
        print(name)' "$@"
