package conn

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/gobwas/ws"
)

// decodeCase is a client's whole output and what is to come of it.
type decodeCase struct {
	name string
	data [][]byte // frames
	max  int      // 0: testMaxMessage
	want []string
	fail ws.StatusCode
	rest bool // something is kept at the end, if it does not fail
}

func decodeCases() []decodeCase {
	frames := func(frames ...[]byte) [][]byte { return frames }
	closeBody := func(code uint16, reason string) string {
		return string(binary.BigEndian.AppendUint16(nil, code)) + reason
	}
	cases := []decodeCase{{
		name: "one message",
		data: frames(maskedFrame(finText, "hello")),
		want: []string{`text "hello"`},
	}, {
		name: "empty messages",
		data: frames(maskedFrame(finText, ""), maskedFrame(finBinary, "")),
		want: []string{`text ""`, `binary ""`},
	}, {
		name: "several in a row",
		data: frames(maskedFrame(finText, "a"), maskedFrame(finPing, "p"), maskedFrame(finBinary, "\xff"), maskedFrame(finPong, "")),
		want: []string{`text "a"`, `ping "p"`, `binary "\xff"`, `pong ""`},
	}, {
		name: "fragments, with controls between them",
		data: frames(
			maskedFrame(finText&notFin, "Hel"), maskedFrame(finPing, "1"),
			maskedFrame(finContinuation&notFin, "lo "), maskedFrame(finPong, "2"), maskedFrame(finPing, ""),
			maskedFrame(finContinuation, "there")),
		want: []string{`ping "1"`, `pong "2"`, `ping ""`, `text "Hello there"`},
	}, {
		name: "empty fragments",
		data: frames(maskedFrame(finText&notFin, ""), maskedFrame(finContinuation&notFin, ""), maskedFrame(finContinuation, ""),
			maskedFrame(finText&notFin, ""), maskedFrame(finContinuation&notFin, "x"), maskedFrame(finContinuation, "")),
		want: []string{`text ""`, `text "x"`},
	}, {
		name: "the state of fragments is that of data frames alone",
		data: frames(maskedFrame(finBinary&notFin, "a"), maskedFrame(finPing, ""), maskedFrame(finBinary, "b")),
		want: []string{`ping ""`},
		fail: ws.StatusProtocolError,
	}, {
		name: "a message ends the state of fragments",
		data: frames(maskedFrame(finText&notFin, "a"), maskedFrame(finContinuation, "b"), maskedFrame(finContinuation, "c")),
		want: []string{`text "ab"`},
		fail: ws.StatusProtocolError,
	}, {
		name: "a message not yet ended",
		data: frames(maskedFrame(finText&notFin, "a")),
		rest: true,
	}, {
		name: "lengths of 7, 16 and 64 bits",
		data: frames(maskedFrame(finText, strings.Repeat("s", 125)), maskedFrame(finText, strings.Repeat("m", 126)),
			maskedFrame(finText, strings.Repeat("l", 65535)), maskedFrame(finText, strings.Repeat("x", 65536))),
		want: []string{
			fmt.Sprintf("text %q", strings.Repeat("s", 125)), fmt.Sprintf("text %q", strings.Repeat("m", 126)),
			fmt.Sprintf("text %q", strings.Repeat("l", 65535)), fmt.Sprintf("text %q", strings.Repeat("x", 65536)),
		},
	}, {
		name: "RSV without an extension",
		data: frames(maskedFrame(finText, "ok"), maskedFrame(finText|0x40, "compressed")),
		want: []string{`text "ok"`},
		fail: ws.StatusProtocolError,
	}, {
		name: "not masked",
		data: frames(AppendFrame(nil, ws.OpText, []byte("hello"))),
		fail: ws.StatusProtocolError,
	}, {
		name: "ping with 125 bytes",
		data: frames(maskedFrame(finPing, strings.Repeat("p", 125))),
		want: []string{fmt.Sprintf("ping %q", strings.Repeat("p", 125))},
	}, {
		name: "ping with 126 bytes",
		data: frames(maskedFrame(finPing, strings.Repeat("p", 126))),
		fail: ws.StatusProtocolError,
	}, {
		name: "ping in fragments",
		data: frames(maskedFrame(finPing&notFin, "p"), maskedFrame(finContinuation, "q")),
		fail: ws.StatusProtocolError,
	},

		// Size.
		{
			name: "as big as allowed",
			data: frames(maskedFrame(finText, "12345678")),
			max:  8,
			want: []string{`text "12345678"`},
		}, {
			name: "too big, from the header",
			data: frames(maskedFrame(finText, "123456789")[:6]),
			max:  8,
			fail: ws.StatusMessageTooBig,
		}, {
			name: "fragments as big as allowed; each message has the limit to itself",
			data: frames(maskedFrame(finText&notFin, "1234"), maskedFrame(finContinuation, "5678"), maskedFrame(finText, "12345678")),
			max:  8,
			want: []string{`text "12345678"`, `text "12345678"`},
		}, {
			name: "the sum of fragments too big, from the header of the last",
			data: frames(maskedFrame(finText&notFin, "1234"), maskedFrame(finContinuation&notFin, "5678"), maskedFrame(finContinuation, "9")[:6]),
			max:  8,
			fail: ws.StatusMessageTooBig,
		}, {
			name: "a control frame is no part of a message",
			data: frames(maskedFrame(finText&notFin, "12345678"), maskedFrame(finPing, "and nine more"), maskedFrame(finContinuation, "")),
			max:  8,
			want: []string{`ping "and nine more"`, `text "12345678"`},
		},

		// UTF-8.
		{
			name: "a rune over three fragments",
			data: frames(maskedFrame(finText&notFin, "€"[:1]), maskedFrame(finContinuation&notFin, "€"[1:2]), maskedFrame(finContinuation, "€"[2:])),
			want: []string{`text "€"`},
		}, {
			name: "a rune cut at the end of the message",
			data: frames(maskedFrame(finText, "abc\xe2\x82")),
			fail: ws.StatusInvalidFramePayloadData,
		}, {
			name: "a rune cut at the end of the last fragment",
			data: frames(maskedFrame(finText&notFin, "abc\xe2"), maskedFrame(finContinuation, "")),
			fail: ws.StatusInvalidFramePayloadData,
		}, {
			name: "bad in the first fragment, which is not complete",
			data: frames(maskedFrame(finText&notFin, "\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80 and more")[:13]),
			fail: ws.StatusInvalidFramePayloadData,
		}, {
			name: "bad with the second fragment",
			data: frames(maskedFrame(finText&notFin, "\xf4"), maskedFrame(finPing, ""), maskedFrame(finContinuation&notFin, "\x90")),
			want: []string{`ping ""`},
			fail: ws.StatusInvalidFramePayloadData,
		}, {
			name: "binary is not checked, nor are pings",
			data: frames(maskedFrame(finBinary&notFin, "\xff"), maskedFrame(finPing, "\xff"), maskedFrame(finContinuation, "\xfe")),
			want: []string{`ping "\xff"`, `binary "\xff\xfe"`},
		},

		// The close frame.
		{
			name: "close without a body",
			data: frames(maskedFrame(finClose, "")),
			want: []string{`close 1005 ""`},
		}, {
			name: "close with one byte",
			data: frames(maskedFrame(finClose, "\x03")),
			fail: ws.StatusProtocolError,
		}, {
			name: "close with a reason as long as can be",
			data: frames(maskedFrame(finClose, closeBody(1000, strings.Repeat("r", 123)))),
			want: []string{fmt.Sprintf("close 1000 %q", strings.Repeat("r", 123))},
		}, {
			name: "close with a bad reason",
			data: frames(maskedFrame(finClose, closeBody(1000, "\xed\xa0\x80"))),
			fail: ws.StatusInvalidFramePayloadData,
		}, {
			name: "close with a bad code and a bad reason",
			data: frames(maskedFrame(finClose, closeBody(999, "\xff"))),
			fail: ws.StatusProtocolError,
		}, {
			name: "close between fragments; nothing behind it is read",
			data: frames(maskedFrame(finText&notFin, "a"), maskedFrame(finClose, closeBody(1001, "bye")),
				maskedFrame(finContinuation, "b"), []byte("garbage")),
			want: []string{`close 1001 "bye"`},
			rest: true,
		},
	}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, decodeCase{
			name: fmt.Sprintf("close code %d", code),
			data: frames(maskedFrame(finClose, closeBody(code, "why"))),
			want: []string{fmt.Sprintf(`close %d "why"`, code)},
		})
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, decodeCase{
			name: fmt.Sprintf("close code %d", code),
			data: frames(maskedFrame(finClose, closeBody(code, "why"))),
			fail: ws.StatusProtocolError,
		})
	}
	return cases
}
