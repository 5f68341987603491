package server

import (
	"net"
	"os"
	"strings"
)

// notify tells the service manager something, where it wants to hear of it
// (systemd's Type=notify): READY=1, or MAINPID= when another process takes over.
func (s *Server) notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if strings.HasPrefix(path, "@") { // in the abstract namespace
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		c.Close()
	}
	if err != nil {
		s.log.Warn("the service manager does not hear (NOTIFY_SOCKET)", "state", state, "err", err)
	}
}
