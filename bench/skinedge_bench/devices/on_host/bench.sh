# Runs the benchmark in a job's folder, prints the report, and removes the folder.
# $1: the folder; $2: the Python; the rest: options of `skinedge bench`.
# Standard input stays open while the caller waits; when it ends, the benchmark is stopped.
job=$HOME/$1 python=$2
shift 2
case $python in */*) case $python in /*) ;; *) python=$HOME/$python ;; esac ;; esac
remove_job() { cd / && rm -rf "$job"; }
trap remove_job EXIT
trap 'exit 1' HUP INT TERM
trap '' PIPE # the caller may be gone
cd "$job" || exit 1
exec 3<&0
PYTHONPATH=$job/code${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 "$python" -m skinedge bench run "$@" --json >out </dev/null 3<&- &
pid=$!
{ cat <&3; kill "$pid"; } >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$pid"
code=$?
kill "$watcher" 2>/dev/null
[ ! -f run/reports/latency.json ] || cat run/reports/latency.json
exit "$code"
