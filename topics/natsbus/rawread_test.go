package natsbus

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// rawPair is a reader of one end of a TCP connection, and both ends.
func rawPair(t *testing.T) (r *rawReader, mine, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if mine, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mine.Close() })
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if r = newRawReader(mine); r == nil {
		t.Fatal("a TCP connection cannot be read raw")
	}
	return r, mine, theirs
}

// A raw read ends as any other does.
func TestRawReadEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(mine, theirs net.Conn) error
		want error
	}{
		{"the other side closes", func(_, theirs net.Conn) error { return theirs.Close() }, io.EOF},
		{"this side closes", func(mine, _ net.Conn) error { return mine.Close() }, net.ErrClosed},
		{"the deadline passes", func(mine, _ net.Conn) error { return mine.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, mine, theirs := rawPair(t)
			if _, err := theirs.Write([]byte("last")); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 3)
			for _, want := range []string{"las", "t"} {
				if n, err := r.Read(p); err != nil || string(p[:n]) != want {
					t.Fatalf("read %q, %v, want %q", p[:n], err, want)
				}
			}
			ended := make(chan error, 1)
			go func() {
				n, err := r.Read(p)
				if n != 0 {
					t.Errorf("read %d bytes that nobody sent", n)
				}
				ended <- err
			}()
			if err := tc.end(mine, theirs); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

// What is no socket is read as any other connection.
func TestRawReadOfAPipe(t *testing.T) {
	mine, theirs := net.Pipe()
	defer mine.Close()
	c := &dialled{mine, newRawReader(mine), func() bool { return true }}
	go func() {
		defer theirs.Close()
		_, _ = theirs.Write([]byte("hello")) // whether it came is seen below
	}()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}

// TLS, which reads in pieces of its own and by deadlines, stands on it.
func TestRawReadBelowTLS(t *testing.T) {
	body := strings.Repeat("x", 1<<20)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body) // whether it came is seen below
	}))
	defer server.Close()
	client := server.Client()
	client.Transport.(*http.Transport).DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		if err != nil {
			return nil, err
		}
		return &dialled{conn, newRawReader(conn), func() bool { return true }}, nil
	}
	answer, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); err != nil || string(got) != body {
		t.Errorf("read %d bytes, %v, want %d", len(got), err, len(body))
	}
}

func TestRawReadAllocs(t *testing.T) {
	r, _, theirs := rawPair(t)
	p, message := make([]byte, 64), []byte("x")
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := theirs.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
