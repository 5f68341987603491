package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// answerTime is how long whoever has a port may take to say who he is.
const answerTime = 2 * time.Second

// listeners: their ports are free, or a pushd that runs has them.
func (e *examination) listeners(ctx context.Context) {
	healthy := func(address string) bool { return isPushd(ctx, address, "http") }
	public := healthy
	if len(e.cfg.TLSCert) > 0 {
		public = func(address string) bool { return isPushd(ctx, address, "https") }
	}
	e.listener("--listen", e.cfg.Listen, public)
	e.listener("--admin", e.cfg.Admin, healthy)
	if len(e.cfg.NATS) == 0 {
		e.listener("--nats-listen", e.cfg.NATSListen, func(address string) bool { return isEmbeddedNATS(ctx, address) })
	}
}

func (e *examination) listener(flag, address string, ours func(address string) bool) {
	err := e.Listen(address)
	switch {
	case err == nil && strings.HasSuffix(address, ":0"):
		e.okf(flag, "%s: any port that is free", address)
	case err == nil:
		e.okf(flag, "%s is free", address)
	case errors.Is(err, syscall.EADDRINUSE) && ours(address):
		e.okf(flag, "%s is in use by a pushd that runs; a second one needs another address", address)
	case errors.Is(err, syscall.EADDRINUSE):
		e.badf(Failure, flag, "stop it (ss -ltnp names it), or another "+flag, "%s is in use, and not by a pushd", address)
	case errors.Is(err, syscall.EACCES):
		e.badf(Failure, flag, "a port of 1024 or more, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit", "%s: this user may not listen there", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.badf(Failure, flag, "an address of this machine (ip addr), or 0.0.0.0 or [::] for all", "%s: this machine does not have that address", address)
	default:
		e.badf(Failure, flag, "another "+flag, "%s: %v", address, err)
	}
}

// tryListen listens at an address for a moment.
func tryListen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// isPushd reports whether a pushd answers there, by how it says that it is alive.
func isPushd(ctx context.Context, address, scheme string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost/healthz", nil)
	if err != nil {
		return false
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // nothing is told it, and nothing believed
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 100))
	return err == nil && response.StatusCode == http.StatusOK && string(bytes.TrimSpace(text)) == `{"status":"alive"}`
}

// isEmbeddedNATS reports whether the NATS server there is one inside a pushd, by its first line.
func isEmbeddedNATS(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	if deadline, ok := ctx.Deadline(); ok && c.SetReadDeadline(deadline) != nil {
		return false
	}
	line, err := bufio.NewReader(io.LimitReader(c, 64<<10)).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "INFO ") && strings.Contains(line, `"server_name":"pushd"`)
}
