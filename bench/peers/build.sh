#!/bin/sh
# build.sh DIR builds all peers into DIR and says which floor DIR/floor is: in C where there is a compiler (gcc, or $CC), else in Go.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
go build -o "$out/" ./cmd/...
cc=${CC:-gcc}
if command -v "$cc" >/dev/null; then
	"$cc" -O2 -Wall -o "$out/floor" floor/floor.c floor/accept.c
	echo "floor: C, $("$cc" --version | head -n 1)"
else
	cp "$out/floor-go" "$out/floor"
	echo "floor: Go with raw system calls, since there is no $cc"
fi
