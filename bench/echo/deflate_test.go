package main

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
)

// As section 12 of the Autobahn suite: messages of all sizes, whole and in
// fragments, compressed both ways.
func TestEchoDeflated(t *testing.T) {
	addr := start(t, "-deflate")
	d := ws.Dialer{Timeout: patience}
	d.Extensions = append(d.Extensions, wsflate.Parameters{}.Option())
	c, _, hs, err := d.Dial(t.Context(), "ws://"+addr)
	if err != nil || len(hs.Extensions) != 1 {
		t.Fatalf("%v, extensions %v", err, hs.Extensions)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for _, size := range []int{0, 16, 64, 256, 1 << 10, 4 << 10, 8 << 10, 64 << 10, 128 << 10} {
		for _, fragments := range []int{1, 3} {
			var text bytes.Buffer
			for i := 0; text.Len() < size; i++ {
				fmt.Fprintf(&text, `{"AutoIncrement": %d, "Name": "µ@ßöä %d"}`, i, i*i)
			}
			f, err := wsflate.CompressFrame(ws.NewTextFrame(text.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			payload := f.Payload
			for i := range fragments {
				part := ws.NewFrame(ws.OpContinuation, i == fragments-1, payload[len(payload)*i/fragments:len(payload)*(i+1)/fragments])
				if i == 0 {
					part.Header.OpCode, part.Header.Rsv = ws.OpText, f.Header.Rsv
				}
				if err := ws.WriteFrame(c, ws.MaskFrame(part)); err != nil {
					t.Fatal(err)
				}
			}
			header, err := ws.ReadHeader(c)
			if err != nil || header.Length > 1<<20 {
				t.Fatal(header, err)
			}
			got := ws.Frame{Header: header, Payload: make([]byte, header.Length)}
			if _, err := io.ReadFull(c, got.Payload); err != nil {
				t.Fatal(err)
			}
			if size >= 256 && got.Header.Rsv == 0 {
				t.Errorf("%d bytes come back as they are", size)
			}
			if got.Header.Rsv != 0 {
				if got, err = wsflate.DecompressFrame(got); err != nil {
					t.Fatal(err)
				}
			}
			if got.Header.OpCode != ws.OpText || !bytes.Equal(got.Payload, text.Bytes()) {
				t.Errorf("%d bytes in %d fragments come back as %d", text.Len(), fragments, len(got.Payload))
			}
		}
	}
}
