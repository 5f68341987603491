package pushd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// subprotocol is what the client speaks (RFC 6455 section 1.9).
const subprotocol = "pushd.v1.json"

// defaultHeartbeat is what to expect of a server that has not said welcome yet.
const defaultHeartbeat = 25 * time.Second

// ending is why a connection ended, and what a client does then.
type ending struct {
	err    error         // never nil, but where the client itself ended it
	again  bool          // connect again
	least  time.Duration // wait at least so long before
	advice time.Time     // connect at this time, whatever the backoff; zero: no advice
	code   int           // of the close frame that the client sends; 0: normal
}

// connection is one connection, from dialling to its end.
func (c *Client) connection(ctx context.Context) ending {
	conn, early, end := c.dial(ctx)
	if conn == nil {
		return end
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &session{client: c, ctx: ctx, out: newOutbox(conn, c.options.Timeout), calls: make(map[int]*call), asking: asking{window: maxAsked}}
	s.live = liveReader{ctx: ctx, conn: conn, quiet: 2 * defaultHeartbeat, patience: c.options.Timeout}
	s.live.ping = func() { s.out.send(ws.OpText, []byte(`{"type":"ping"}`)) }
	s.in = frameReader{in: bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), &s.live), 64<<10), control: s.control}
	stop := context.AfterFunc(ctx, s.live.interrupt)
	var writing sync.WaitGroup
	writing.Go(s.out.run)

	s.begin()
	end = s.ended(ctx, s.run())
	s.detach()
	stop()
	cancel()
	if end.code == 0 {
		end.code = closeNormal
	}
	s.out.close(end.code)
	writing.Wait()
	s.renewing.Wait()
	conn.Close()
	return end
}

// dial opens a WebSocket. early is what the server sent along with its answer;
// without a conn the ending says why.
func (c *Client) dial(ctx context.Context) (conn net.Conn, early []byte, end ending) {
	token, err := c.token(ctx)
	if err != nil {
		return nil, nil, ending{err: fmt.Errorf("no token: %w", err), again: true}
	}
	header := c.options.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	c.mu.Lock()
	c.shown = token
	c.mu.Unlock()
	var no *Error
	dialer := ws.Dialer{
		Header:    ws.HandshakeHeaderHTTP(header),
		Timeout:   c.options.Timeout,
		TLSConfig: c.options.TLS,
		NetDial:   c.options.NetDial,
		Protocols: []string{subprotocol},
		OnStatusError: func(_ int, _ []byte, answer io.Reader) {
			response, err := http.ReadResponse(bufio.NewReader(answer), nil)
			if err != nil {
				return
			}
			defer response.Body.Close()
			no = ResponseError(response)
		},
	}
	conn, buffered, handshake, err := dialer.Dial(ctx, c.url.String())
	switch {
	case no != nil && no.Status == http.StatusUnauthorized:
		return nil, nil, c.another(ctx, no)
	case no != nil:
		return nil, nil, ending{err: no, again: no.Temporary(), least: no.RetryAfter}
	case err != nil:
		return nil, nil, ending{err: fmt.Errorf("cannot connect to %s: %w", c.url.Redacted(), err), again: true}
	case handshake.Protocol == "":
		conn.Close()
		return nil, nil, ending{err: fmt.Errorf("%s does not speak %s: is it a pushd?", c.url.Redacted(), subprotocol)}
	}
	if buffered != nil {
		waiting, _ := buffered.Peek(buffered.Buffered()) // what is buffered can be peeked at
		early = bytes.Clone(waiting)
		ws.PutReader(buffered)
	}
	return conn, early, ending{}
}

// token returns what to show to the next connection.
func (c *Client) token(ctx context.Context) (string, error) {
	if c.hasSpare {
		token := c.spare
		c.spare, c.hasSpare = "", false
		return token, nil
	}
	return c.freshToken(ctx)
}

// freshToken asks for a token. An error never holds it.
func (c *Client) freshToken(ctx context.Context) (string, error) {
	if c.options.Token == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	token, err := c.options.Token(ctx)
	if err != nil {
		return "", err
	}
	for i := range len(token) {
		if b := token[i]; b <= ' ' || b > '~' { // it becomes a header
			return "", fmt.Errorf("what Options.Token returned is none: its byte %d is no visible ASCII character", i)
		}
	}
	return token, nil
}

// another is the ending of a connection whose token the server did not take:
// final, unless there is another.
func (c *Client) another(ctx context.Context, refused error) ending {
	token, err := c.freshToken(ctx)
	if err != nil {
		return ending{err: fmt.Errorf("%w; no other token: %w", refused, err), again: true}
	}
	c.mu.Lock()
	same := token == c.shown
	c.mu.Unlock()
	if same {
		return ending{err: refused}
	}
	c.spare, c.hasSpare = token, true
	return ending{err: refused, again: true}
}

// ended says what the end of a session means.
func (s *session) ended(ctx context.Context, err error) ending {
	if ctx.Err() != nil {
		return ending{err: ErrClosed}
	}
	if failure := s.out.failure(); failure != nil {
		err = fmt.Errorf("%w: %w", errBroken, failure)
	}
	end := ending{err: err, again: true, advice: s.advice}
	var closed *CloseError
	var mistake *protocolError
	switch {
	case errors.As(err, &closed):
		what := closeCodeOf(closed.Code)
		if closed.Code == closeNoToken {
			end = s.client.another(ctx, err)
		} else {
			end.again, end.least = what.again, what.least
		}
		end.code = closed.Code
	case errors.As(err, &mistake):
		end.code = mistake.code
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		end.err = errBroken
	}
	return end
}
