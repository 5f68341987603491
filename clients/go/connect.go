package pushd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// subprotocol is what the client speaks (RFC 6455 section 1.9).
const subprotocol = "pushd.v1.json"

// defaultHeartbeat is what to expect of a server that does not name its own.
const defaultHeartbeat = 25 * time.Second

// run is one WebSocket, from dialling to its end.
func (s *session) run(ctx context.Context) ending {
	c := s.client
	welcomeBy := time.Now().Add(c.options.Timeout)
	conn, early, end := c.dial(ctx)
	if conn == nil {
		return end
	}
	ctx, cancel := context.WithCancel(ctx)
	s.ctx, s.out = ctx, newOutbox(conn, c.options.Timeout)
	s.live = liveReader{ctx: ctx, conn: conn, quiet: 2 * defaultHeartbeat, patience: c.options.Timeout, welcomeBy: welcomeBy}
	s.live.ping = func() { s.out.send(ws.OpText, []byte(`{"type":"ping"}`)) }
	s.in = frameReader{in: bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), &s.live), 64<<10), control: s.control}
	stop := context.AfterFunc(ctx, s.live.interrupt)
	var writing sync.WaitGroup
	writing.Go(s.out.run)

	end = s.ended(ctx, s.read())
	c.mu.Lock()
	s.detachLocked()
	c.mu.Unlock()
	stop()
	cancel()
	if end.code == 0 {
		end.code = closeNormal
	}
	s.out.close(end.code)
	writing.Wait()
	s.renewal.running.Wait()
	conn.Close()
	return end
}

// ended says what the end of a session means.
func (s *session) ended(ctx context.Context, err error) ending {
	if failure := s.out.failure(); failure != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errBroken, failure)
	}
	end := endOf(ctx, err)
	end.advice = s.advice
	var closed *CloseError
	end.unfit = !s.live.welcomeBy.IsZero() && !errors.As(err, &closed)
	return end
}

// dial opens a WebSocket. early is what the server sent along with its answer;
// without a conn the ending says why.
func (c *Client) dial(ctx context.Context) (conn net.Conn, early []byte, end ending) {
	header := c.options.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if token := c.token(); token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	dial := dialWith(c.options.NetDial)
	if c.url.Scheme == "wss" {
		dial = dialTLS(&c.options)
	}
	var no *Error
	dialer := ws.Dialer{
		Header:    ws.HandshakeHeaderHTTP(header),
		Timeout:   c.options.Timeout,
		NetDial:   dial,
		TLSClient: func(conn net.Conn, _ string) net.Conn { return conn }, // dial has done it
		Protocols: []string{subprotocol},
		OnStatusError: func(status int, _ []byte, answer io.Reader) {
			response, err := http.ReadResponse(bufio.NewReader(answer), nil)
			if err != nil { // it broke off, and its status counts all the same
				no = &Error{Code: statusCode(status), Message: http.StatusText(status), Status: status}
				return
			}
			defer response.Body.Close()
			no = ResponseError(response)
		},
	}
	conn, buffered, handshake, err := dialer.Dial(ctx, c.url.String())
	switch {
	case no != nil:
		return nil, nil, refusedEnd(no)
	case err != nil:
		return nil, nil, ending{err: fmt.Errorf("cannot connect to %s: %w", c.url.Redacted(), err), again: true, unfit: !isAway(err)}
	case handshake.Protocol == "":
		conn.Close()
		return nil, nil, ending{err: fmt.Errorf("%s does not speak %s: is it a pushd?", c.url.Redacted(), subprotocol), unfit: true}
	}
	if buffered != nil {
		waiting, _ := buffered.Peek(buffered.Buffered()) // what is buffered can be peeked at
		early = bytes.Clone(waiting)
		ws.PutReader(buffered)
	}
	return conn, early, ending{}
}

// awayError is that of a connection below TLS that could not be made. It would
// not be made for another transport either.
type awayError struct{ error }

func (e *awayError) Unwrap() error { return e.error }

func isAway(err error) bool {
	var away *awayError
	return errors.As(err, &away)
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialTLS makes connections with TLS on them. A server that is busy closes them
// before their handshake, of which no transport is seen yet: it is away.
func dialTLS(o *Options) dialFunc {
	dial := dialWith(o.NetDial)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, o.Timeout)
		defer cancel()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{}
		if o.TLS != nil {
			config = o.TLS.Clone()
		}
		if config.ServerName == "" {
			if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
				conn.Close()
				return nil, err
			}
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				return nil, &awayError{fmt.Errorf("closed before the TLS handshake: %w", err)}
			}
			return nil, err
		}
		return secure, nil
	}
}

// dialWith marks the errors of a dialer, which is TCP's where it is nil.
func dialWith(dial dialFunc) dialFunc {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, &awayError{err}
		}
		return conn, nil
	}
}
