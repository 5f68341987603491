package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pushd/pushd/internal/server"
)

const (
	// perClient is what one idle client costs pushd and the kernel, in bytes (docs/SCALING.md).
	perClient = 4300

	// crowd is from how many clients on the bounds of the kernel's tables matter.
	crowd = 100_000

	// backlog is what each shard asks for.
	backlog = 4096
)

// files: how many clients the limit of open files lets in.
func (e *examination) files() {
	const subject = "open files"
	soft, hard, err := e.Files()
	if err != nil {
		e.badf(Failure, subject, "", "their limit cannot be read: %v", err)
		return
	}
	if e.clients, err = server.MaxConnectionsOf(e.cfg.MaxConnections, soft); err != nil {
		e.badf(Failure, subject, "LimitNOFILE= or ulimit -n, or --max-connections", "%v", err)
		return
	}
	switch {
	case soft < hard:
		e.badf(Warning, subject, "ulimit -n "+strconv.FormatUint(hard, 10)+", which needs no rights", "%d, which lets in %d clients; the hard limit is %d", soft, e.clients, hard)
	case soft <= 4096:
		e.badf(Warning, subject, "LimitNOFILE=1048576 in the unit, or nofile in limits.conf", "%d, which lets in %d clients", soft, e.clients)
	default:
		e.okf(subject, "%d, which lets in %d clients", soft, e.clients)
	}
}

// memory: the clients that are taken fit into it.
func (e *examination) memory() {
	const subject = "memory"
	total, where := e.total()
	if total == 0 {
		return // no /proc, as in some sandboxes
	}
	need := uint64(e.clients)*perClient + uint64(e.cfg.RingMemory)*7/4 + uint64(e.cfg.ReceiveMemory) + uint64(e.cfg.PollMemory)
	if need > total {
		e.badf(Warning, subject, "--max-connections, or more memory", "%d clients, --ring-memory, --receive-memory and --poll-memory may take %s, and there are %s of %s", e.clients, size(need), size(total), where)
		return
	}
	e.okf(subject, "%s of %s; at most %s are needed for %d clients and their messages", size(total), where, size(need), e.clients)
}

// total is the memory that may be used, and who says so.
func (e *examination) total() (bytes uint64, where string) {
	for line := range strings.Lines(e.read("proc/meminfo")) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			bytes, where = kib<<10, "the machine"
		}
	}
	for _, file := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if limit, err := strconv.ParseUint(e.read(file), 10, 64); err == nil && limit > 0 && (bytes == 0 || limit < bytes) {
			bytes, where = limit, "the container"
		}
	}
	return bytes, where
}

// kernel: settings that would hold clients up. docs/SCALING.md has the reasons.
func (e *examination) kernel() {
	e.least("net.core.somaxconn", 0, backlog, "connections that wait to be accepted, on each shard")
	e.least("net.ipv4.tcp_max_syn_backlog", 0, 1024, "half-open connections, when many come at once")
	e.least("fs.file-max", 0, e.clients, "open files of the whole machine")
	e.least("fs.epoll.max_user_watches", 0, e.clients, "sockets that are waited for")
	if e.clients >= crowd {
		e.least("net.ipv4.tcp_mem", 2, e.clients, "pages, of which each socket with bytes on their way takes one")
		e.least("net.netfilter.nf_conntrack_max", 0, e.clients, "connections that are tracked; where the table is full new ones are dropped without a word")
	}
	if e.proxied() {
		e.ports()
	}
}

// least wants a number of a sysctl to be at least so much. What this kernel
// does not have, or a container does not show, holds nobody up.
func (e *examination) least(name string, field, want int, what string) {
	fields := strings.Fields(e.read("proc/sys/" + strings.ReplaceAll(name, ".", "/")))
	if len(fields) <= field {
		return
	}
	is, err := strconv.ParseUint(fields[field], 10, 64)
	switch {
	case err != nil:
	case is < uint64(want):
		fields[field] = strconv.Itoa(want)
		e.badf(Warning, name, "sysctl -w "+name+"="+quoted(fields), "%d, want %d or more: %s", is, want, what)
	default:
		e.okf(name, "%d", is)
	}
}

func quoted(fields []string) string {
	if len(fields) == 1 {
		return fields[0]
	}
	return "'" + strings.Join(fields, " ") + "'"
}

// proxied reports whether clients come through a proxy on this machine, which
// needs a port for each.
func (e *examination) proxied() bool {
	return slices.ContainsFunc(append(slices.Clone(e.cfg.TrustForwarded), e.cfg.ProxyProtocol...), func(network string) bool {
		return strings.HasPrefix(network, "127.") || strings.HasPrefix(network, "::1")
	})
}

// ports: a proxy on this machine has one for each client.
func (e *examination) ports() {
	const name = "net.ipv4.ip_local_port_range"
	fields := strings.Fields(e.read("proc/sys/net/ipv4/ip_local_port_range"))
	if len(fields) != 2 {
		return
	}
	low, _ := strconv.Atoi(fields[0])
	high, _ := strconv.Atoi(fields[1])
	if ports := high - low + 1; ports < min(e.clients, 60_000) {
		e.badf(Warning, name, "sysctl -w "+name+"='1024 65535', and more source addresses in the proxy for more clients", "%d ports, and the proxy on this machine needs one for each of %d clients", ports, e.clients)
	} else {
		e.okf(name, "%d ports for the proxy on this machine", ports)
	}
}

// uring: whether it is allowed, and wanted.
func (e *examination) uring() {
	const subject = "io_uring"
	err := e.URing()
	switch {
	case e.cfg.Send == "write":
		e.okf(subject, "not wanted by --send write")
	case err == nil:
		e.okf(subject, "sends to many sockets in one system call")
	case e.cfg.Send == "uring":
		e.badf(Failure, subject, "--send auto, or allow io_uring (seccomp profile, kernel.io_uring_disabled)", "%v, and --send uring insists on it", err)
	default:
		e.badf(Warning, subject, "allow io_uring (seccomp profile, kernel.io_uring_disabled) for less CPU, or say --send write", "%v: sends by write", err)
	}
}

// read returns a file of the kernel without its line end, "" where there is none.
func (e *examination) read(file string) string {
	text, err := os.ReadFile(filepath.Join("/", e.Root, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// size writes bytes as people do.
func size(bytes uint64) string {
	if bytes < 1<<30 {
		return strconv.FormatUint(bytes>>20, 10) + " MiB"
	}
	return strconv.FormatFloat(float64(bytes)/(1<<30), 'f', 1, 64) + " GiB"
}

// cause strips the path, which is named beside it.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
