package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
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

// unreachable makes an error of net/http fit for one line that says what to do.
func unreachable(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the method and the URL, which repeat what is known
	}
	return fmt.Errorf("cannot reach the server: %w (is it running, and is --server right?)", err)
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
