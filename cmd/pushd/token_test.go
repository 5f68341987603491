package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/peertest"
)

func writeToken(t *testing.T, path, token string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTokenFlags(t *testing.T) {
	dir := t.TempDir()
	good, empty := filepath.Join(dir, "good"), filepath.Join(dir, "empty")
	writeToken(t, good, " abc.d-e_f\n")
	writeToken(t, empty, "\n")
	for _, c := range []struct {
		flags       tokenFlags
		token, fail string
	}{
		{tokenFlags{}, "", ""},
		{tokenFlags{Token: "abc"}, "abc", ""},
		{tokenFlags{TokenFile: good}, "abc.d-e_f", ""},
		{tokenFlags{TokenFile: good, Token: "abc"}, "", "exclude each other"},
		{tokenFlags{TokenFile: empty}, "", "is empty"},
		{tokenFlags{TokenFile: filepath.Join(dir, "none")}, "", "--token-file: "},
		{tokenFlags{Token: "secret\r\nX-Evil: 1"}, "", "--token is no token: its byte 6 is no visible ASCII character"},
		{tokenFlags{Token: "secret secret"}, "", "byte 6"},
	} {
		token, err := c.flags.read()
		if token != c.token || (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%+v: %q, %v", c.flags, token, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has the token: %v", err)
		}
	}
}

// guardedPublisher takes what comes with one token.
func guardedPublisher(t *testing.T, token string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"code":"unauthorized","message":"no"}`))
			return
		}
		w.WriteHeader(http.StatusAccepted)
		w.Write([]byte(`{"topic":"a"}` + "\n"))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestPublishWithToken(t *testing.T) {
	s := guardedPublisher(t, "abc")
	if got := runWith(testContext(t), "", "publish", "--server", s.URL, "--token=abc", "a", "1"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	t.Setenv("PUSHD_TOKEN", "abc")
	if got := runWith(testContext(t), "", "publish", "--server", s.URL, "a", "1"); got.code != 0 {
		t.Errorf("from the environment: %+v", got)
	}
	if got := runWith(testContext(t), "", "publish", "--server", s.URL, "--token=wrong", "a", "1"); got.code != 1 || got.stderr != "pushd: unauthorized: no: give another --token\n" {
		t.Errorf("with another: %+v", got)
	}
	if got := runWith(testContext(t), "{}\n", "feed", "--server", s.URL, "--token=wrong", "--topic=a", "-"); got.code != 1 || !strings.Contains(got.stderr, "unauthorized: no: give another --token") {
		t.Errorf("feed with another: %+v", got)
	}
}

// TestSubscribeWithoutGoodToken is told once, and not tried again.
func TestSubscribeWithoutGoodToken(t *testing.T) {
	s := guardedPublisher(t, "abc")
	got := runWith(testContext(t), "", "subscribe", "--server", s.URL, "a")
	if got.code != 1 || got.stderr != "pushd: unauthorized: no: give a token with --token-file, or in PUSHD_TOKEN\n" {
		t.Errorf("%+v", got)
	}
	url := peertest.Start(t, func(p *peertest.Peer) { p.Welcome(); p.Close(4001, "no_token") }) // wants one connection
	got = runWith(testContext(t), "", "subscribe", "--server", url, "--token=abc", "a.b")
	if got.code != 1 || got.stderr != "pushd: the server closed the connection: 4001 no_token: give another --token\n" {
		t.Errorf("%+v", got)
	}
	url = peertest.Start(t, func(p *peertest.Peer) { p.Welcome(); p.Close(4003, "kicked") })
	got = runWith(testContext(t), "", "subscribe", "--server", url, "a.b")
	if got.code != 1 || got.stderr != "pushd: the server closed the connection: 4003 kicked\n" {
		t.Errorf("%+v", got)
	}
}

// TestSubscribeRenews shows the token that its file has by then: before the
// old one ends, or on the next connection.
func TestSubscribeRenews(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	writeToken(t, file, "first\n")
	url := peertest.Start(t, func(p *peertest.Peer) {
		p.Welcome()
		p.Send(`{"type":"token_expires","after":30000,"expires":1732215945000}`)
		p.Send(`{"type":"message","topic":"a.b","time":0,"data":0}`)
		for op := ws.OpContinuation; op != ws.OpPong; { // it has read what came before
			ws.WriteFrame(p.Conn, ws.NewPingFrame(nil))
			op, _, _ = p.Frame()
		}
		writeToken(t, file, "second\n")
		p.Send(`{"type":"token_expires","after":10000,"expires":1732215945000}`)
		p.Want(`{"type":"auth","id":"renew","token":"second"}`)
		p.Send(`{"type":"authenticated","id":"renew","expires":1732215945000}`)
		p.Close(4002, "token_expired")
	}, func(p *peertest.Peer) {
		p.Welcome()
		p.Message(1)
		p.WantClose(ws.StatusNormalClosure)
	})
	s, stdout, stderr := fastSubscriber(url, 2)
	s.token = tokenFlags{TokenFile: file}
	if err := s.run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if want := "1970-01-01T00:00:00.000Z a.b 0\n2024-11-21T18:05:45.678Z a.b {\"n\":1}\n"; stdout.String() != want {
		t.Errorf("printed %q", stdout.String())
	}
	if !strings.Contains(stderr.String(), "the token ends in 30s: put a good token into "+file) || !strings.Contains(stderr.String(), "4002") {
		t.Errorf("told %q", stderr.String())
	}
}
