package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// host is what this machine allows.
type host struct {
	files      int // that a process may open
	allFiles   int // that may be opened beside those that are
	ports      int // that clients may connect from, of each address
	watches    int // sockets in epoll sets, of one user
	tracked    int // connections that are tracked; 0: tracking is off
	maxTracked int
	memory     int // bytes available
}

func readHost() (h host, err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return h, fmt.Errorf("limit of open files: %w", err)
	}
	h.files = int(min(limit.Max, 1<<30)) // Go processes raise their own limit to the hard one
	var unused, most, first, last int
	const kernel = "/proc/sys/"
	errs := []error{
		read(kernel+"fs/file-nr", &h.allFiles, &unused, &most),
		read(kernel+"net/ipv4/ip_local_port_range", &first, &last),
		read(kernel+"fs/epoll/max_user_watches", &h.watches),
	}
	h.allFiles, h.ports = most-h.allFiles, last-first+1
	for name, value := range map[string]*int{"nf_conntrack_count": &h.tracked, "nf_conntrack_max": &h.maxTracked} {
		if err := read(kernel+"net/netfilter/"+name, value); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return h, err
	}
	memory, err := proc.Meminfo()
	if err == nil && memory.MemAvailableBytes == nil {
		err = errors.New("/proc/meminfo lacks MemAvailable")
	}
	if err == nil {
		h.memory = int(*memory.MemAvailableBytes)
	}
	return h, errors.Join(append(errs, err)...)
}

// read reads the numbers in a file.
func read(path string, values ...*int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i, value := range values {
		fields := strings.Fields(string(text))
		if i == len(fields) {
			return fmt.Errorf("%s holds %q, but %d numbers are needed", path, text, len(values))
		}
		if _, err := fmt.Sscan(fields[i], value); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// What connections need, generously.
const (
	keptFiles        = 800      // of a process, that are no connections
	filled           = 0.85     // of the files of a process, where their number is not given
	filesOfAll       = 10_000   // of the machine, beside the connections
	memoryEach       = 14 << 10 // bytes of a connection: the kernel's for both ends, a message, both programs'
	memoryProcess    = 64 << 20
	clientsPerSource = 10_000 // far below the ports of an address, for those still in TIME_WAIT
)

// processesFor is how many pushd processes hold so many connections.
func (h host) processesFor(connections int) int {
	each := max(1, int(float64(h.files)*filled))
	return max(2, (connections+each-1)/each)
}

// sourcesFor are the addresses that clients connect from.
func sourcesFor(connections int) (sources []string) {
	address := netip.AddrFrom4([4]byte{127, 0, 0, 2})
	for range max(4, (connections+clientsPerSource-1)/clientsPerSource) {
		sources = append(sources, address.String())
		address = address.Next()
	}
	return sources
}

// check says which settings do not allow so many connections, and what cures it.
func (h host) check(connections, processes int) error {
	var errs []error
	need := func(has, needs int, format string, args ...any) {
		if has < needs {
			errs = append(errs, fmt.Errorf("%d connections: "+format, append([]any{connections}, args...)...))
		}
	}
	each := (connections + processes - 1) / processes
	need(h.files, each+keptFiles, "each of %d pushd processes needs %d open files and may have %d: raise -processes, or ulimit -Hn (LimitNOFILE=, at the most fs.nr_open)",
		processes, each+keptFiles, h.files)
	need(h.allFiles, 2*connections+filesOfAll, "both ends need %d open files, and the machine has %d left: raise fs.file-max by sysctl -w",
		2*connections+filesOfAll, h.allFiles)
	sources := len(sourcesFor(connections))
	pair := (each + sources - 1) / sources
	need(h.ports, pair, "%d go from each of %d addresses to one pushd, and there are %d ports: widen net.ipv4.ip_local_port_range by sysctl -w, or raise -processes",
		pair, sources, h.ports)
	need(h.watches, 2*connections, "both ends need %d epoll entries, and a user may have %d: raise fs.epoll.max_user_watches by sysctl -w",
		2*connections, h.watches)
	if h.tracked > 0 {
		need(h.maxTracked-h.tracked, connections, "connections are tracked, and %d more may be: raise net.netfilter.nf_conntrack_max by sysctl -w, or do not track on lo",
			h.maxTracked-h.tracked)
	}
	memory := connections*memoryEach + (2*processes+2)*memoryProcess
	need(h.memory, memory, "both ends need about %d MiB of memory, and %d MiB are available: lower -n, or take a larger machine",
		memory>>20, h.memory>>20)
	return errors.Join(errs...)
}
