package server

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// whereabouts says where that lies for which a client has waited in vain: what
// pushd knows of the connection, and what the kernel has of it at either end. It
// is for the message of a failure, so what cannot be found out is said there too.
func whereabouts(admin string, c net.Conn) string {
	client, server := c.LocalAddr().String(), c.RemoteAddr().String()
	return fmt.Sprintf("pushd has %s; its socket %s; the client's %s, and offers room for %s",
		connectionOf(admin, client), kernelQueues(server, client), kernelQueues(client, server), offered(c))
}

// connectionOf is a connection as GET /connections tells of it.
func connectionOf(admin, client string) string {
	var list struct{ Connections []json.RawMessage }
	resp, err := http.Get(fmt.Sprintf("http://%s/connections?limit=%d", admin, maxListLimit))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return fmt.Sprintf("%v, in %.200s", err, text)
	}
	at := slices.IndexFunc(list.Connections, func(c json.RawMessage) bool {
		var info connectionInfo
		return json.Unmarshal(c, &info) == nil && info.Peer == client
	})
	if at < 0 {
		return fmt.Sprintf("not this one among its %d", len(list.Connections))
	}
	return strings.Join(strings.Fields(string(list.Connections[at])), " ")
}

// kernelQueues is what the kernel has of one end of a connection over IPv4.
func kernelQueues(from, to string) string {
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return err.Error()
	}
	from, to = kernelAddress(from), kernelAddress(to)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 7 || f[1] != from || f[2] != to {
			continue
		}
		var unacked, unread, timer, due, tries uint64
		if _, err := fmt.Sscanf(f[4]+" "+f[5]+" "+f[6], "%x:%x %x:%x %x", &unacked, &unread, &timer, &due, &tries); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d bytes to send and %d to be read, timer %s in %.1f s after %d tries", unacked, unread, kernelTimers[timer%uint64(len(kernelTimers))], float64(due)/100, tries)
	}
	return "is gone"
}

// kernelTimers are those of /proc/net/tcp, by number.
var kernelTimers = [...]string{"none", "to send again", "of keepalive", "of TIME_WAIT", "to probe a closed window"}

// kernelAddress is an IPv4 address as /proc/net/tcp has it.
func kernelAddress(text string) string {
	at, err := netip.ParseAddrPort(text)
	if err != nil || !at.Addr().Is4() {
		return ""
	}
	ip := at.Addr().As4()
	slices.Reverse(ip[:])
	return strings.ToUpper(fmt.Sprintf("%s:%04x", hex.EncodeToString(ip[:]), at.Port()))
}

// offered is how much a client's kernel has said that it takes.
func offered(c net.Conn) string {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err.Error()
	}
	answer := ""
	if err := raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			answer = err.Error()
		} else {
			answer = fmt.Sprintf("%d bytes", info.Rcv_wnd)
		}
	}); err != nil {
		return err.Error()
	}
	return answer
}
