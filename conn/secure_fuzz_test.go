package conn

import (
	"bytes"
	"crypto/tls"
	"testing"
)

// modelHello gathers the messages of all records first, and looks at them then.
func modelHello(p []byte) helloVerdict {
	var messages []byte
	for rest := p; len(rest) > 0; {
		if rest[0] != 22 || len(rest) > 1 && rest[1] != 3 {
			return helloNotTLS
		}
		if len(rest) < 5 {
			break
		}
		n := int(rest[3])<<8 + int(rest[4])
		if n == 0 || n > 16384 {
			return helloNotTLS
		}
		payload := rest[5:min(5+n, len(rest))]
		messages = append(messages, payload...)
		if len(messages) > 0 && messages[0] != 1 {
			return helloNotTLS
		}
		if len(messages) >= 4 {
			size := 4 + int(messages[1])<<16 + int(messages[2])<<8 + int(messages[3])
			if size > maxHello {
				return helloTooLarge
			}
			if len(messages) >= size {
				return helloComplete
			}
		}
		rest = rest[5+len(payload):]
	}
	if len(p) >= maxHello {
		return helloTooLarge
	}
	return helloNeedMore
}

// What a TLS client begins with is taken for the same as by the model, and for
// the same whatever pieces it comes in.
func FuzzHello(f *testing.F) {
	whole := helloOf(f, &tls.Config{ServerName: "localhost"})
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 3, 0, 0, 0})
	f.Add([]byte{22, 3, 1, 0, 4, 1, 1, 0, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		before := bytes.Clone(p)
		got, want := scanHello(p), modelHello(p)
		if !bytes.Equal(p, before) {
			t.Fatal("it changes what it reads")
		}
		// Of a second record the model says sooner that it is none: either is sure of it in the end.
		if got != want && !(got == helloNeedMore && want == helloNotTLS) {
			t.Fatalf("%d of %x, the model says %d", got, p, want)
		}
		if len(p) >= maxHello {
			return
		}
		for i := range len(p) {
			if early := scanHello(p[:i]); early != helloNeedMore && early != got {
				t.Fatalf("%d after %d bytes of %x, %d after all", early, i, p, got)
			}
		}
	})
}
