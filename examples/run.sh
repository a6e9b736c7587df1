#!/bin/sh
# The main job, `make run`: clone this repository, build its C parts and run its unit tests, all inside examples/ci.toml; then show
# what the view withheld. Everything happens in a scratch directory that is gone at the end.
set -eu
repository=$(cd "$(dirname "$0")/.." && pwd)
bin=$repository/.venv/bin
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/vuosd-run.XXXXXX")
trap 'rm -rf "$scratch"' EXIT INT TERM

# Things to withhold, so that the last part has something to show on a machine that keeps no secrets: a home of our own.
mkdir -p "$scratch/home/.ssh" "$scratch/home/.aws" "$scratch/work"
echo "not for builds" | tee "$scratch/home/.ssh/id_ed25519" >"$scratch/home/.aws/credentials"
export HOME="$scratch/home" DEPLOY_TOKEN=not-for-builds
cd "$scratch/work"

# ci.toml gives a private /tmp, and this repository may lie in the real one: it is shown again, to be read.
cat >"$scratch/run.toml" <<PROFILE
extends = ["$repository/examples/ci.toml"]
[[mount]]
type = "bind"
source = "$repository"
target = "$repository"
readonly = true
PROFILE
inside() { "$bin/vuos-run" --view="$scratch/run.toml" -- "$@"; }
step() { printf '\n== %s\n' "$*"; }

step "clone, in the view"
inside git -c safe.directory='*' clone -q "$repository" tree
cd tree

step "build the C parts, in the view"
inside "$bin/meson" setup build >/dev/null
inside "$bin/meson" compile -C build | tail -1

step "unit tests, in the view"
inside "$bin/python" -m pytest -q -p no:cacheprovider tests/abi tests/views

step "what the view withheld"
# shellcheck disable=SC2016 # the shell inside expands these
inside sh -c '
	try() { printf "%-44s " "$1"; shift; "$@" 2>&1 >/dev/null | sed "s/.*: //" | tail -1 | grep . || echo "works"; }
	try "~/.ssh/id_ed25519" cat "$HOME/.ssh/id_ed25519"
	try "~/.aws/credentials" cat "$HOME/.aws/credentials"
	try "write to /etc" touch /etc/vuosd-was-here
	try "write to the home directory" touch "$HOME/vuosd-was-here"
	try "write to /tmp" touch /tmp/vuosd-was-here
	try "write to the tree" touch vuosd-was-here
	printf "%-44s %s\n" "\$DEPLOY_TOKEN" "${DEPLOY_TOKEN:-not set}"
	printf "%-44s %s\n" "entries of ~" "$(ls -A "$HOME" | wc -l)"
'
[ ! -e /tmp/vuosd-was-here ] && echo "outside, /tmp/vuosd-was-here does not exist"
[ -e vuosd-was-here ] && echo "outside, the tree has vuosd-was-here"
