package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/internal/wire"
)

const defaultServer = "http://127.0.0.1:8080"

// serverFlag says which server a client command talks to.
type serverFlag struct {
	Server string `name:"server" env:"PUSHD_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Talk to the server at this URL, which is what it calls --listen."`
	CA     string `name:"ca" env:"PUSHD_CA" placeholder:"FILE" help:"Trust the certificate authorities in this PEM file, instead of the system's, for a server behind TLS."`
	tokenFlags
}

// trust is the TLS configuration for the server; nil: the usual one.
func (f serverFlag) trust() (*tls.Config, error) {
	if f.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca %s: there is no certificate in PEM in it", f.CA)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// client is an HTTP client for the server. A timeout of 0 is none.
func (f serverFlag) client(timeout time.Duration) (*http.Client, error) {
	trust, err := f.trust()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trust
	return &http.Client{Timeout: timeout, Transport: transport}, nil
}

// endpoint returns the URL of a path of the server, whose elements it escapes.
func (f serverFlag) endpoint(path ...string) (*url.URL, error) {
	server := f.Server
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err == nil {
		switch u.Scheme { // who names the WebSocket means the same server
		case "ws":
			u.Scheme = "http"
		case "wss":
			u.Scheme = "https"
		}
	}
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--server is %q, but must be a URL such as %s", f.Server, defaultServer)
	}
	return u.JoinPath(path...), nil
}

// refusal is an answer of the server that says no. Its JSON form is that of
// the body of an HTTP error, and of a result line of POST /publish.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`

	status     int           // of HTTP; 0 where it is a line among others
	retryAfter time.Duration // 0 where the server does not say
}

func (r *refusal) Error() string { return r.Code + ": " + r.Message }

// temporary reports whether the same request may succeed later.
func (r *refusal) temporary() bool {
	switch r.status {
	case 0:
		return r.Code == string(wire.Unavailable) || r.Code == string(wire.RateLimited)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// refused returns the refusal that a response with an error status is. What
// stands between here and a pushd may answer with a body of its own.
func refused(response *http.Response) *refusal {
	r := &refusal{status: response.StatusCode}
	const longest = 64 << 10 // bytes of a body that are worth reading for a message
	body, err := io.ReadAll(io.LimitReader(response.Body, longest))
	if err != nil || json.Unmarshal(body, r) != nil || r.Code == "" {
		r.Code, r.Message = "HTTP "+strconv.Itoa(response.StatusCode), http.StatusText(response.StatusCode)
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.retryAfter = time.Duration(seconds) * time.Second
	}
	return r
}

// unreachable makes an error of net/http fit for one line that says what to do.
func unreachable(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the method and the URL, which repeat what is known
	}
	return fmt.Errorf("cannot reach the server: %w (is it running, and is --server right?)", err)
}
