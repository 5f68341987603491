package pushd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options are a client's settings. The zero value serves a server without
// authentication.
type Options struct {
	// Token returns a token or API key, "" for none. It is asked before each
	// round of attempts, and when the token that was shown ends or is refused; where it
	// returns the refused one again, the client ends. An error is a failed attempt
	// like any other. ctx ends after Timeout.
	Token func(ctx context.Context) (string, error)

	// Transports are those that may be used, the best first. nil: WebSocket, SSE
	// and Poll. Where one cannot be had the next is tried, and while on a lesser
	// one the best is tried now and then.
	Transports []Transport

	// RetryBetter is how often that is, each time 0.5 to 1.5 of it. 0: 60 s.
	RetryBetter time.Duration

	TLS     *tls.Config // for https:// and wss://; nil: the system's authorities
	Header  http.Header // sent with each request, such as Origin; Authorization is Token's
	Backoff Backoff     // between attempts

	// Timeout bounds connecting until the server's welcome, a write, a request,
	// Token and the wait for a sign of life that was asked for. 0: 10 s.
	Timeout time.Duration

	// NetDial makes the connection below TLS, such as one through a proxy. nil: TCP.
	NetDial func(ctx context.Context, network, address string) (net.Conn, error)

	Log *slog.Logger // gets every event; nil: nobody does

	// Events is told what happens beside messages, one event at a time and in
	// order. Everything of the client waits meanwhile, so it returns soon, and
	// calls no method of the client that waits.
	Events func(Event)
}

// Client is a connection to a server that is made anew whenever it must be.
type Client struct {
	// Static.
	options    Options
	transports []Transport
	url        *url.URL // of the WebSocket
	http       *requester
	cancel     context.CancelFunc
	ended      chan struct{} // closed when run has returned

	// run's alone.
	worked   bool   // the best transport, once
	spare    string // a token that was asked for when another was refused
	hasSpare bool

	telling sync.Mutex // held while Events is called

	publishing chan struct{} // holds one for each publication under way

	// Guarded by mu.
	mu       sync.Mutex
	state    State
	err      error // why it is closed, or the last attempt failed
	backoff  Backoff
	changed  chan struct{} // closed, and made anew, when state or link change
	open     Transport     // "": not open
	link     link          // that asks for subscriptions; nil: there is none
	shown    string        // token in use
	interest map[string]*interest
	order    []*interest // as they were asked for
	patterns []*interest
}

// maxPublishing is how many publications may wait for their replies at a time:
// a server refuses more than 256.
const maxPublishing = 128

// New returns a client that begins to connect, and goes on until Close. The URL is the server's,
// http(s):// or ws(s)://, with or without the path of its WebSocket, /ws. An
// error is about the URL or Options.Transports.
func New(server string, o Options) (*Client, error) {
	endpoint, err := endpointOf(server)
	if err != nil {
		return nil, err
	}
	transports, err := transportsOf(o.Transports)
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.RetryBetter <= 0 {
		o.RetryBetter = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		options: o, transports: transports, url: endpoint, http: newRequester(ctx, endpoint, &o), cancel: cancel, ended: make(chan struct{}), backoff: o.Backoff,
		publishing: make(chan struct{}, maxPublishing),
		changed:    make(chan struct{}), interest: make(map[string]*interest),
	}
	go c.run(ctx)
	return c, nil
}

// Dial is New, and waits until the connection is open, ctx is done, or there is
// no use in going on.
func Dial(ctx context.Context, server string, o Options) (*Client, error) {
	c, err := New(server, o)
	if err != nil {
		return nil, err
	}
	for {
		c.mu.Lock()
		state, changed, err := c.state, c.changed, c.err
		c.mu.Unlock()
		switch state {
		case Open:
			return c, nil
		case Closed:
			c.Close()
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.Close()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			return nil, ctx.Err()
		}
	}
}

// endpointOf returns where a server's WebSocket is.
func endpointOf(server string) (*url.URL, error) {
	text := server
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the server's URL: %w", err)
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	}
	if u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		return nil, fmt.Errorf("the server's URL is %q, but must be one such as https://push.example.com", server)
	}
	if u.Path = strings.TrimSuffix(u.Path, "/"); !strings.HasSuffix(u.Path, "/ws") {
		u = u.JoinPath("ws")
	}
	return u, nil
}

// State returns where the client stands, and why: the error of the last attempt
// where it is Waiting, or that for which it is Closed, which is ErrClosed after
// Close.
func (c *Client) State() (State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.err
}

// Transport returns the one in use, "" while the client is not open.
func (c *Client) Transport() Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Close ends the client with all its subscriptions and returns when nothing of
// it runs any more. It must not be called by Events. The error is always nil.
func (c *Client) Close() error {
	c.cancel()
	<-c.ended
	return nil
}

// become takes a state and tells of it.
func (c *Client) become(to *StateChange) {
	c.mu.Lock()
	c.state, c.open = to.State, ""
	if to.State == Open {
		c.open = to.Transport
	}
	if to.Err != nil || to.State == Open {
		c.err = to.Err
	}
	c.changedLocked()
	c.mu.Unlock()
	c.tell(to)
}

func (c *Client) changedLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// finish ends the client for good.
func (c *Client) finish(err error) {
	c.mu.Lock()
	c.state, c.open, c.err = Closed, "", err
	subscriptions := make(map[*Subscription]bool)
	for _, i := range c.order {
		subscriptions[i.sub] = true
	}
	c.order, c.patterns, c.interest = nil, nil, nil
	c.changedLocked()
	c.mu.Unlock()
	for s := range subscriptions {
		s.end(err)
	}
	told := &StateChange{State: Closed}
	if !errors.Is(err, ErrClosed) {
		told.Err = err
	}
	c.tell(told)
}

// tell logs an event and hands it on. The caller holds no lock.
func (c *Client) tell(events ...Event) {
	c.telling.Lock()
	defer c.telling.Unlock()
	for _, e := range events {
		c.options.Log.Log(context.Background(), e.level(), "pushd: "+e.String(), "server", c.url.Host)
		if c.options.Events != nil {
			c.options.Events(e)
		}
	}
}
