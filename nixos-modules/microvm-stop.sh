# microvm-stop STATE_DIRECTORY: the ExecStop= of microvm@.service.
#
# A runner's own microvm-shutdown may return before the guest has powered off (that of microvm.nix
# does, when its input is no terminal), and systemd would then kill the guest: wait for its end.
set -eu

shutdown=$1/booted/bin/microvm-shutdown

# The guest has ended by itself, or has no graceful way to: systemd sees to the rest.
if [ -z "${MAINPID:-}" ] || [ ! -x "$shutdown" ]; then
  exit 0
fi

"$shutdown"
exec tail --pid="$MAINPID" --sleep-interval=0.2 --follow /dev/null
