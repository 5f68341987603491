package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Bounds of one request, all of its tries together if OTEL_EXPORTER_OTLP_TIMEOUT
// says nothing else.
const (
	uploadTimeout = 10 * time.Second // the default of the OTLP specification
	retryFirst    = 500 * time.Millisecond
	maxAnswer     = 64 << 10
)

// upload is the otlptrace.Client that sends OTLP over HTTP, in protobuf. That of
// the SDK brings all of gRPC with it, since the type of its request lies there:
// on the wire it is a TracesData.
type upload struct {
	// Static.
	url     string
	headers http.Header
	timeout time.Duration
	client  *http.Client

	// One goroutine uploads.
	rejected uint64 // spans that the collector did not want
}

func newUpload(endpoint string) (*upload, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, errors.New("--trace-endpoint is no URL")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces" // OTLP, "OTLP/HTTP Request"
	}
	up := &upload{url: u.String(), timeout: uploadTimeout}
	if up.headers, err = headersFromEnv(); err != nil {
		return nil, err
	}
	if up.timeout, err = timeoutFromEnv(uploadTimeout); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost = 1
	if transport.TLSClientConfig, err = tlsFromEnv(); err != nil {
		return nil, err
	}
	up.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // headers may have a secret
	}}
	return up, nil
}

// Start implements otlptrace.Client.
func (up *upload) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (up *upload) Stop(context.Context) error { return nil }

func (up *upload) close() { up.client.CloseIdleConnections() }

// UploadTraces implements otlptrace.Client. It tries again, within the time, where
// the specification says that this may help.
func (up *upload) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, up.timeout)
	defer cancel()
	for wait := retryFirst; ; wait *= 2 {
		err := up.post(ctx, body)
		var again *retryable
		if !errors.As(err, &again) {
			return err
		}
		timer := time.NewTimer(max(wait, again.after))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// retryable is an error after which a request may be repeated.
type retryable struct {
	error
	after time.Duration // not before
}

func (r *retryable) Unwrap() error { return r.error }

func (up *upload) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, up.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = up.headers.Clone()
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "pushd")
	resp, err := up.client.Do(req)
	if err != nil {
		var failure *url.Error
		if errors.As(err, &failure) {
			err = failure.Err // without the URL, which may have a secret in it
		}
		return &retryable{error: err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		if err == nil {
			up.rejected += rejectedIn(answer)
		}
		return nil // the collector has them, whatever it wanted to say
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &retryable{error: answered(resp), after: retryAfter(resp)}
	}
	return answered(resp)
}

func answered(resp *http.Response) error { return fmt.Errorf("it answers %s", resp.Status) }

func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// rejectedIn reads partial_success.rejected_spans of an ExportTraceServiceResponse.
func rejectedIn(answer []byte) (spans uint64) {
	const partialSuccess, rejectedSpans = 1, 1
	eachField(answer, func(number protowire.Number, kind protowire.Type, value []byte) {
		if number != partialSuccess || kind != protowire.BytesType {
			return
		}
		inner, _ := protowire.ConsumeBytes(value)
		eachField(inner, func(number protowire.Number, kind protowire.Type, value []byte) {
			if number == rejectedSpans && kind == protowire.VarintType {
				spans, _ = protowire.ConsumeVarint(value)
			}
		})
	})
	return min(spans, math.MaxInt32)
}

// eachField calls do for the fields of a message, up to what is none.
func eachField(message []byte, do func(number protowire.Number, kind protowire.Type, value []byte)) {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return
		}
		length := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if length < 0 {
			return
		}
		do(number, kind, message[tag:tag+length])
		message = message[tag+length:]
	}
}
