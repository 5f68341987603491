package conn

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// A GET that is taken is one that net/http reads in the same way, so that neither a
// proxy nor what is served elsewhere takes it for something else.
func FuzzGet(f *testing.F) {
	for _, seed := range []string{
		ask("/get"), ask("/get?topic=a.b&x", "Last-Event-ID: k3.42@a.b", "Authorization: Bearer x"), ask("http://b:8/get", "Connection: close"),
		"GET /get HTTP/1.0\r\n\r\n", "GET /get HTTP/1.0\nConnection: x, keep-alive\n\n", ask("/get", "Content-Length: 0"),
		ask("/get", "Transfer-Encoding: chunked"), ask("/get", "Host: b"), ask("/get", "X : y"), ask("/get#x"), ask("/get", "Last-Event-ID:", "Last-Event-ID:"),
		"GET /get\r\n\r\n", "GET  /get HTTP/1.1\r\nHost: a\r\n\r\n", "GET /get HTTP/1.1 \r\nHost: a\r\n\r\n", ask("/get", "Content-Length: 0, 0"),
	} {
		f.Add([]byte(seed))
	}
	h := newHandshaker(nil, true)
	table := &Table{cfg: Config{Claims: func(path string) bool { return strings.HasPrefix(path, "/get") }}}
	f.Fuzz(func(t *testing.T, input []byte) {
		end, v := scanHead(input, 0)
		if v != headComplete {
			return
		}
		head := input[:end]
		before := bytes.Clone(head)
		claimed := table.claims(head)
		req, refused := h.get(head)
		if !bytes.Equal(head, before) {
			t.Fatal("the head was changed")
		}
		if !claimed {
			return
		}
		if refused != nil {
			if req != nil || refused.Status != http.StatusBadRequest {
				t.Fatalf("refused with %+v, and %+v", refused, req)
			}
			return
		}
		line, headers, _ := strings.Cut(string(head), "\n")
		words := strings.Split(strings.TrimSuffix(line, "\r"), " ")
		if len(words) != 3 || words[0] != http.MethodGet {
			t.Fatalf("%q is taken", line)
		}
		target := modelTarget.FindStringSubmatch(words[1])
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / " + words[2] + "\r\n" + headers)))
		if err != nil || target == nil {
			t.Fatalf("%q is taken, and net/http says %v", head, err)
		}
		if target[1] != "" {
			r.Host = target[1]
		}
		kept := strings.ToLower(strings.Join(r.Header["Connection"], ","))
		switch {
		case r.ContentLength != 0, len(r.TransferEncoding) > 0, r.ProtoMajor != 1:
			t.Fatalf("%q is taken: %+v", head, r)
		case req.Path != target[2], req.Query != target[3], req.Host != r.Host, req.Origin != r.Header.Get("Origin"),
			req.Authorization != r.Header.Get("Authorization"), req.LastEventID != r.Header.Get("Last-Event-Id"):
			t.Fatalf("%q is read as %+v; the model has %+v", head, req, r)
		case !strings.HasPrefix(req.Path, "/get"):
			t.Fatalf("%q is claimed, and its path is %q", head, req.Path)
		case req.KeepAlive && r.ProtoMinor == 0 && !strings.Contains(kept, "keep-alive"):
			t.Fatalf("%q is kept", head)
		}
	})
}
