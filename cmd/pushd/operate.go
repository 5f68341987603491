package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
)

// adminTimeout is how long an operator's request may take.
const adminTimeout = 30 * time.Second

// adminFlags say where a server's operators reach it, and how they show that
// they are some. The token itself is no flag: those show in the list of processes.
type adminFlags struct {
	Admin          string `name:"admin" env:"PUSHD_ADMIN" default:"127.0.0.1:8081" placeholder:"ADDRESS" help:"Ask the server at this address or URL, which is what it calls --admin."`
	AdminTokenFile string `name:"admin-token-file" env:"PUSHD_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"Send the token in this file; the environment variable PUSHD_ADMIN_TOKEN may hold it instead."`
}

// token returns what to send, "" where there is none.
func (f adminFlags) token() (string, error) {
	if f.AdminTokenFile == "" {
		return os.Getenv("PUSHD_ADMIN_TOKEN"), nil
	}
	text, err := os.ReadFile(f.AdminTokenFile)
	if err != nil {
		return "", fmt.Errorf("--admin-token-file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// ask makes a request and reads the answer into v. The elements of the path are escaped here.
func (f adminFlags) ask(ctx context.Context, method string, query url.Values, v any, path ...string) error {
	return f.askWithin(ctx, adminTimeout, method, query, v, path...)
}

// askWithin is ask of what may take another time.
func (f adminFlags) askWithin(ctx context.Context, timeout time.Duration, method string, query url.Values, v any, path ...string) error {
	u, err := serverFlag{Server: f.Admin}.endpoint()
	if err != nil {
		return fmt.Errorf("--admin is %q, but must be an address or URL such as 127.0.0.1:8081", f.Admin)
	}
	for _, element := range path {
		u = u.JoinPath(url.PathEscape(element))
	}
	u.RawQuery = query.Encode()
	token, err := f.token()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // as in unreachable
		}
		return fmt.Errorf("cannot reach the admin listener at %s: %w (is the server running, and is --admin right?)", f.Admin, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return pushd.ResponseError(response)
	}
	return json.NewDecoder(response.Body).Decode(v)
}

type disconnectCommand struct {
	Name     string `arg:"" help:"The client's name, as in its welcome and in logs; with --identity, whose connections to end."`
	Identity bool   `name:"identity" help:"End every connection that this identity has, on any node."`
	Reason   string `name:"reason" default:"kicked" enum:"kicked,token_expired,policy,draining,overloaded" help:"Tell the client this reason by its close code: kicked, token_expired, policy, draining or overloaded."`
	adminFlags
}

// Run prints how many were disconnected.
func (c *disconnectCommand) Run(ctx context.Context, p program) error {
	kind := "connections"
	if c.Identity {
		kind = "identities"
	}
	var did struct {
		Disconnected int
		Silent       []string
	}
	if err := c.ask(ctx, http.MethodPost, url.Values{"reason": {c.Reason}}, &did, kind, c.Name, "disconnect"); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout, did.Disconnected); err != nil {
		return err
	}
	if len(did.Silent) > 0 {
		return fmt.Errorf("no answer of nodes %s: connections may be left there, so try again", plain(strings.Join(did.Silent, ", ")))
	}
	return nil
}

type drainCommand struct {
	Grace  *int   `name:"grace" placeholder:"SECONDS" help:"Let /readyz fail for this long before clients are told, in seconds, so that load balancers have looked away; without it the server's --drain-grace."`
	Window *int   `name:"window" placeholder:"SECONDS" help:"Spread the clients' leaving over this long, in seconds; without it the server's --drain-window."`
	Node   string `name:"node" placeholder:"NAME" help:"Drain this node of the cluster; without it the one that --admin reaches."`
	Cancel bool   `name:"cancel" help:"Take a drain back, while its grace lasts."`
	Wait   bool   `name:"wait" help:"Return when the last client has left."`
	adminFlags
}

// drainPoll is how often --wait looks.
const drainPoll = 500 * time.Millisecond

// Run prints how the drain stands.
func (c *drainCommand) Run(ctx context.Context, p program) error {
	var st struct {
		State       string
		Connections int
	}
	method, query := http.MethodPost, url.Values{}
	for name, seconds := range map[string]*int{"grace": c.Grace, "window": c.Window} {
		if seconds != nil {
			query.Set(name, strconv.Itoa(*seconds))
		}
	}
	if c.Cancel {
		method, query = http.MethodDelete, nil
	}
	path := []string{"drain"}
	if c.Node != "" {
		path = []string{"nodes", c.Node, "drain"}
	}
	if err := c.ask(ctx, method, query, &st, path...); err != nil {
		return err
	}
	for c.Wait && !c.Cancel && st.State != "drained" {
		if err := sleep(ctx, drainPoll); err != nil {
			return err
		}
		if err := c.ask(ctx, http.MethodGet, nil, &st, path...); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.stdout, "%s, %d connections\n", st.State, st.Connections)
	return err
}
