package pushd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// mostPublishing is how many connections publications over HTTP have at a time:
// a server bounds those of an address.
const mostPublishing = 6

// longestReceipt, in bytes, is far beyond any answer to a publication.
const longestReceipt = 1 << 20

// requester makes requests of a server's other endpoints, with the means that
// its WebSockets have.
type requester struct {
	// Static.
	ctx     context.Context // the client's
	base    url.URL         // without the path of the WebSocket
	header  http.Header
	timeout time.Duration
	pulls   *http.Client
	posts   *http.Client
}

func newRequester(ctx context.Context, endpoint *url.URL, o *Options) *requester {
	r := &requester{ctx: ctx, base: *endpoint, header: o.Header, timeout: o.Timeout}
	r.base.Scheme = "http" + strings.TrimPrefix(endpoint.Scheme, "ws")
	r.base.Path, r.base.RawPath = strings.TrimSuffix(endpoint.Path, "ws"), ""
	r.base.User = nil
	r.pulls, r.posts = r.client(o, 0), r.client(o, mostPublishing)
	return r
}

func (r *requester) client(o *Options, most int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         dialWith(o.NetDial),
			DialTLSContext:      dialTLS(o),
			Protocols:           protocols,
			DisableCompression:  true,
			MaxConnsPerHost:     most,
			MaxIdleConnsPerHost: max(2, most),
			IdleConnTimeout:     30 * time.Second, // a server waits 75 s for the next
		},
		// No refusal of a pushd leads elsewhere, and the token is for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request makes one of a path such as /sse, with a query of its own.
func (r *requester) request(ctx context.Context, method, path, query, token string, body io.Reader) (*http.Request, error) {
	u := *r.base.JoinPath(path)
	switch {
	case u.RawQuery == "":
		u.RawQuery = query
	case query != "":
		u.RawQuery += "&" + query
	}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		request.Header[name] = values
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request, nil
}

// get makes a request, whose answer the caller closes. A status that is no 200
// is an *Error.
func (r *requester) get(ctx context.Context, path, query, token string) (*http.Response, error) {
	request, err := r.request(ctx, http.MethodGet, path, query, token, nil)
	if err != nil {
		return nil, err
	}
	response, err := r.pulls.Do(request)
	if err != nil {
		return nil, r.cannot(path, err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, ResponseError(response)
	}
	return response, nil
}

// cannot says of what could not be had where that was, without its query.
func (r *requester) cannot(path string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("cannot connect to %s: %w", r.base.JoinPath(path).Redacted(), err)
}

// headRoom is how many bytes a query may have: a server reads 8 KiB of a request's head.
func (r *requester) headRoom(token string) int {
	const line = 512 // of the request, and what net/http adds
	room := 8<<10 - line - len(r.base.Host) - len(r.base.Path) - len(r.base.RawQuery) - len(token)
	for name, values := range r.header {
		for _, value := range values {
			room -= len(name) + len(value) + 4
		}
	}
	return room
}

func (r *requester) close() {
	r.pulls.CloseIdleConnections()
	r.posts.CloseIdleConnections()
}

// post publishes by POST /publish/{topic}. The error is an *Error where the
// server says no, and any other where nothing is known.
func (r *requester) post(ctx context.Context, cmd *command, token string) (*envelope, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	path := "/publish/" + url.PathEscape(cmd.Topic)
	request, err := r.request(ctx, http.MethodPost, path, "", token, strings.NewReader(string(cmd.payload)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Idempotency-Key", cmd.Key)
	response, err := r.posts.Do(request)
	if err != nil {
		return nil, r.cannot(path, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusAccepted {
		return nil, ResponseError(response)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, longestReceipt))
	if err != nil {
		return nil, err
	}
	m := &envelope{}
	if err := decode(text, m); err != nil {
		return nil, err
	}
	return m, nil
}
