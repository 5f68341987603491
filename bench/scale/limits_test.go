package main

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	roomy := host{files: 20_000, allFiles: 1 << 20, ports: 28_000, watches: 1 << 22, memory: 16 << 30}
	f := func(want string, change func(h *host)) {
		t.Helper()
		h := roomy
		change(&h)
		err := h.check(100_000, 6)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	f("", func(*host) {})
	f("100000 connections: each of 6 pushd processes needs 17467 open files and may have 1024: raise -processes, or ulimit -Hn", func(h *host) { h.files = 1024 })
	f("raise fs.file-max", func(h *host) { h.allFiles = 200_000 })
	f("1667 go from each of 10 addresses to one pushd, and there are 1000 ports: widen net.ipv4.ip_local_port_range", func(h *host) { h.ports = 1000 })
	f("raise fs.epoll.max_user_watches", func(h *host) { h.watches = 199_999 })
	f("", func(h *host) { h.maxTracked = 65_536 }) // tracking is off
	f("65436 more may be: raise net.netfilter.nf_conntrack_max", func(h *host) { h.tracked, h.maxTracked = 100, 65_536 })
	f("lower -n", func(h *host) { h.memory = 1 << 30 })
}

func TestProcessesFor(t *testing.T) {
	f := func(files, connections, want int) {
		t.Helper()
		h := host{files: files, allFiles: 1 << 30, ports: 28_000, watches: 1 << 30, memory: 1 << 50}
		got := h.processesFor(connections)
		if got != want {
			t.Errorf("%d connections of %d files: %d processes, want %d", connections, files, got, want)
		}
		if err := h.check(connections, got); err != nil {
			t.Error(err)
		}
	}
	f(20_000, 100_000, 6)
	f(20_000, 300, 2)
	f(1<<20, 100_000, 2)
	f(1<<20, 5_000_000, 6)
}

// What /proc says of this machine is read.
func TestReadHost(t *testing.T) {
	h, err := readHost()
	if err != nil {
		t.Fatal(err)
	}
	if h.files < 1 || h.allFiles < 1 || h.ports < 1 || h.watches < 1 || h.memory < 1 {
		t.Errorf("%+v", h)
	}
}
