package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/internal/server"
)

type serveCommand struct {
	Flags config.Flags `embed:""`
}

// Run serves until ctx is done.
func (c *serveCommand) Run(ctx context.Context, parsed *kong.Context, p program) error {
	cfg, _, err := config.Load(parsed, &c.Flags)
	if err != nil {
		return err
	}
	log, err := newLogger(p.stderr, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return err
	}
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP) // before New, which may take a while: else one would end the process meanwhile
	defer signal.Stop(hangUps)
	upgrades := make(chan os.Signal, 1)
	signal.Notify(upgrades, syscall.SIGUSR2)
	defer signal.Stop(upgrades)
	s, err := openServer(cfg, log)
	if err != nil {
		return err
	}
	defer reloadOn(upgrades, func() { _, _ = s.Upgrade() })() // it logs what became of it
	if cfg.Demo {
		if _, err := io.WriteString(p.stdout, invitation(p.callPath(), s.URL(), cfg.Authenticates())); err != nil {
			log.Warn("cannot print what to try", "error", err)
		}
	}
	defer reloadOn(hangUps, s.Reload)()
	return p.runUntil(ctx, s)
}

// runUntil runs a server until ctx is done. Where that was by SIGTERM it is drained
// first, while it runs.
func (p program) runUntil(ctx context.Context, s *server.Server) error {
	insisted := p.insisted
	if insisted == nil {
		insisted = context.Background()
	}
	insisted, over := context.WithCancel(insisted)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var stopping sync.WaitGroup
	stopping.Go(func() {
		defer stop()
		select {
		case <-ctx.Done():
		case <-insisted.Done():
		}
		if errors.Is(context.Cause(ctx), errTerminated) {
			s.Drain(insisted)
		}
	})
	err := s.Run(serving)
	over() // it may have ended by itself
	stopping.Wait()
	return err
}

// openServer makes a server, in place of the one that has started this process for
// that, if one has.
func openServer(cfg config.Config, log *slog.Logger) (*server.Server, error) {
	inherited := os.Getenv(server.HandoverVariable)
	if inherited == "" {
		return server.New(cfg, log)
	}
	if err := os.Unsetenv(server.HandoverVariable); err != nil { // it is not for the next
		return nil, err
	}
	fd, err := strconv.ParseUint(inherited, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%s=%s is no file descriptor: it is set by pushd itself", server.HandoverVariable, inherited)
	}
	link, err := handover.Join(uintptr(fd))
	if err != nil {
		return nil, err
	}
	return server.TakeOver(cfg, log, link)
}

// reloadOn has a signal mean that something is to be done (read certificates and
// keys of tokens again, hand over to another process), until the returned function is called.
func reloadOn(signals chan os.Signal, reload func()) (stop func()) {
	var running sync.WaitGroup
	running.Go(func() {
		for range signals {
			reload()
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		running.Wait()
	}
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	options.Level = least
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return slog.New(slog.NewTextHandler(w, &options)), nil
}

// invitation is three lines to try on a server at a URL: a page, a subscriber,
// and a message that both will show. What TLS and authentication need comes from
// the environment, as the subscriber has it.
func invitation(path, url string, authenticates bool) string {
	scheme, address, _ := strings.Cut(url, "://")
	url = scheme + "://" + reachable(address)
	flag, curl := "", "curl"
	if url != defaultServer {
		flag = " --server " + url
	}
	if scheme == "https" {
		curl += ` ${PUSHD_CA:+--cacert "$PUSHD_CA"}`
	}
	if authenticates {
		curl += ` -H "Authorization: Bearer $PUSHD_TOKEN"`
	}
	return fmt.Sprintf("open       %s/demo/\nsubscribe  %s subscribe%s 'host.>'\npublish    %s -d '\"hello\"' %s/publish/host.demo.greeting\n",
		url, path, flag, curl, url)
}

// reachable turns an address that stands for all of a machine's into one to
// connect to from here.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// callPath returns how to call this program from a shell, in which plain
// "pushd" is a builtin.
func (p program) callPath() string {
	if strings.Contains(p.path, "/") {
		return p.path
	}
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "./" + p.path
}
