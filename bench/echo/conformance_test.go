package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// The cases of the Autobahn fuzzing client, sections 1 to 7, 9 and 10, as far
// as they can be had from raw bytes in little time; the number of a case begins
// with that of its section. Of section 9 the sizes are smaller, 8 is no
// section, and 12 and 13 are about compression: see TestEchoDeflated.

// First bytes of frames.
const (
	text, textMore     = 0x81, 0x01
	binaryf, binMore   = 0x82, 0x02
	rest, more         = 0x80, 0x00 // continuations: the last, and not the last
	closef, ping, pong = 0x88, 0x89, 0x8a
	pingMore, pongMore = 0x09, 0x0a
)

// conformance is one case: what a client sends, and all that comes back.
type conformance struct {
	name string
	send [][]byte
	want []string
}

// closes is a close frame from the server. Where it is not the last that is
// wanted, the client ends the case with a close of 1000.
func closes(code int) string { return fmt.Sprintf("close %d", code) }

func frames(f ...[]byte) [][]byte { return f }

func echoOf(payload string) string   { return fmt.Sprintf("text %q", payload) }
func binaryOf(payload string) string { return fmt.Sprintf("binary %q", payload) }
func pongOf(payload string) string   { return fmt.Sprintf("pong %q", payload) }

func closeBody(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

func filler(n int) string { return strings.Repeat("*", n) }

// cut is a message in fragments of at most size bytes.
func cut(first byte, payload string, size int) (f [][]byte) {
	for len(payload) > size {
		f = append(f, frame(first&^0x80, payload[:size]))
		first, payload = rest, payload[size:]
	}
	return append(f, frame(first|0x80, payload))
}

func framing() (cases []conformance) { // section 1
	for _, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		p := filler(n)
		b := strings.Repeat("\xfe", n)
		cases = append(cases,
			conformance{fmt.Sprintf("1.1 text of %d", n), frames(frame(text, p)), []string{echoOf(p)}},
			conformance{fmt.Sprintf("1.2 binary of %d", n), frames(frame(binaryf, b)), []string{binaryOf(b)}})
	}
	return cases
}

func pings() []conformance { // section 2
	var ten [][]byte
	var tenPongs []string
	for i := range 10 {
		ten = append(ten, frame(ping, fmt.Sprint("payload-", i)))
		tenPongs = append(tenPongs, pongOf(fmt.Sprint("payload-", i)))
	}
	return []conformance{
		{"2.1 ping without payload", frames(frame(ping, "")), []string{pongOf("")}},
		{"2.2 ping with text", frames(frame(ping, "Hello, world!")), []string{pongOf("Hello, world!")}},
		{"2.3 ping with bytes", frames(frame(ping, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")), []string{pongOf("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}},
		{"2.4 ping of 125", frames(frame(ping, strings.Repeat("\xfe", 125))), []string{pongOf(strings.Repeat("\xfe", 125))}},
		{"2.5 ping of 126", frames(frame(ping, filler(126))), []string{closes(1002)}},
		{"2.7 unsolicited pong", frames(frame(pong, "")), nil},
		{"2.8 unsolicited pong with payload", frames(frame(pong, "unsolicited")), nil},
		{"2.9 unsolicited pong, then ping", frames(frame(pong, "unsolicited"), frame(ping, "ping")), []string{pongOf("ping")}},
		{"2.10 ten pings", ten, tenPongs},
	}
}

func reserved() (cases []conformance) { // section 3
	for rsv := byte(1); rsv <= 7; rsv++ {
		bad := frame(text|rsv<<4, "*")
		cases = append(cases,
			conformance{fmt.Sprintf("3.%d text with RSV %d", rsv, rsv), frames(bad), []string{closes(1002)}},
			conformance{fmt.Sprintf("3.%d between a text and a ping", rsv), frames(frame(text, "Hello"), bad, frame(ping, "")), []string{echoOf("Hello"), closes(1002)}},
			conformance{fmt.Sprintf("3.%d binary", rsv), frames(frame(binaryf|rsv<<4, "*")), []string{closes(1002)}},
			conformance{fmt.Sprintf("3.%d ping", rsv), frames(frame(ping|rsv<<4, "*")), []string{closes(1002)}},
			conformance{fmt.Sprintf("3.%d close", rsv), frames(frame(closef|rsv<<4, "")), []string{closes(1002)}},
			conformance{fmt.Sprintf("3.%d continuation", rsv), frames(frame(textMore, "a"), frame(rest|rsv<<4, "b")), []string{closes(1002)}})
	}
	return cases
}

func opcodes() (cases []conformance) { // section 4
	for i, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		n := fmt.Sprintf("4.%d.%d", 1+i/5, 1+i%5)
		cases = append(cases,
			conformance{n + " alone", frames(frame(0x80|op, "")), []string{closes(1002)}},
			conformance{n + " with payload", frames(frame(0x80|op, "reserved")), []string{closes(1002)}},
			conformance{n + " between a text and a ping", frames(frame(text, "Hello"), frame(0x80|op, "*"), frame(ping, "")), []string{echoOf("Hello"), closes(1002)}},
			conformance{n + " within a message", frames(frame(textMore, "a"), frame(0x80|op, "*"), frame(rest, "b")), []string{closes(1002)}})
	}
	return cases
}

func fragmentation() []conformance { // section 5
	const a, b = "fragment1", "fragment2"
	stray := func(n string, first byte) []conformance {
		return []conformance{
			{n + " then a text", frames(frame(first, "nothing to continue"), frame(text, "Hello")), []string{closes(1002)}},
			{n + " behind a message", frames(frame(textMore, a), frame(rest, b), frame(first, "nothing to continue"), frame(text, "Hello")), []string{echoOf(a + b), closes(1002)}},
		}
	}
	cases := []conformance{
		{"5.1 ping in two", frames(frame(pingMore, a), frame(rest, b)), []string{closes(1002)}},
		{"5.2 pong in two", frames(frame(pongMore, a), frame(rest, b)), []string{closes(1002)}},
		{"5.3 text in two", frames(frame(textMore, a), frame(rest, b)), []string{echoOf(a + b)}},
		{"5.6 text in two, ping between", frames(frame(textMore, a), frame(ping, "ping"), frame(rest, b)), []string{pongOf("ping"), echoOf(a + b)}},
		{"5.16 two stray messages of fragments", frames(frame(more, a), frame(textMore, a), frame(rest, b)), []string{closes(1002)}},
		{"5.18 text in two texts", frames(frame(textMore, a), frame(text, b)), []string{closes(1002)}},
		{"5.18 text in a text and a binary", frames(frame(textMore, a), frame(binaryf, b)), []string{closes(1002)}},
		{"5.19 five fragments, two pings", frames(
			frame(textMore, "1"), frame(more, "2"), frame(ping, "first"), frame(more, "3"), frame(more, "4"), frame(ping, "second"), frame(rest, "5")),
			[]string{pongOf("first"), pongOf("second"), echoOf("12345")}},
	}
	cases = append(cases, stray("5.9 stray end", rest)...)
	return append(cases, stray("5.12 stray fragment", more)...)
}

// sequences of section 6: hexadecimal, in the words of Markus Kuhn's test of decoders.
var sequences = []struct {
	name  string
	bytes []string
}{
	{"6.5 valid text", []string{"ceba", "cebae1bdb9", "cebae1bdb9cf83ceb5", "f0908080", "e282ac"}},
	{"6.6 every start of a word", []string{
		"ce", "ceba", "cebae1", "cebae1bd", "cebae1bdb9", "cebae1bdb9cf", "cebae1bdb9cf83",
		"cebae1bdb9cf83ce", "cebae1bdb9cf83cebc", "cebae1bdb9cf83cebcce", "cebae1bdb9cf83cebcceb5"}},
	{"6.7 first of each length", []string{"00", "c280", "e0a080", "f0908080"}},
	{"6.8 first of lengths that are no more", []string{"f888808080", "fc8480808080"}},
	{"6.9 last of each length", []string{"7f", "dfbf", "efbfbf", "f48fbfbf"}},
	{"6.10 last of lengths that are no more", []string{"f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"}},
	{"6.11 other boundaries", []string{"ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"}},
	{"6.12 unexpected continuations", []string{"80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", "80818283848586878889"}},
	{"6.13 lonely starts", []string{"c020c120c220df20", "e020e120ef20", "f020f120f720", "f820f920fb20", "fc20fd20"}},
	{"6.14 last byte missing", []string{"c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"}},
	{"6.15 all of these", []string{"c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf"}},
	{"6.16 impossible bytes", []string{"fe", "ff", "fefeffff"}},
	{"6.17 overlong slash", []string{"c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"}},
	{"6.18 last of the overlong", []string{"c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"}},
	{"6.19 overlong zero", []string{"c080", "e08080", "f0808080", "f880808080", "fc8080808080"}},
	{"6.20 surrogates", []string{"eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"}},
	{"6.21 surrogates in pairs", []string{"eda080edb080", "eda080edbfbf", "edadbfedb080", "edadbfedbfbf", "edae80edb080", "edae80edbfbf", "edafbfedb080", "edafbfedbfbf"}},
	{"6.22 not characters, and valid", []string{"efbfbe", "efbfbf", "f09fbfbe", "f09fbfbf", "f0afbfbe", "f3bfbfbf", "f48fbfbe", "f48fbfbf"}},
	{"6.23 specials", []string{"efbfb9", "efbfba", "efbfbb", "efbfbc", "efbfbd"}},
}

func utf8Text() []conformance { // section 6
	const hello = "Hello-µ@ßöäüàá-UTF-8!!"
	cases := []conformance{
		{"6.1.1 nothing", frames(frame(text, "")), []string{echoOf("")}},
		{"6.1.2 nothing, three times", frames(frame(textMore, ""), frame(more, ""), frame(rest, "")), []string{echoOf("")}},
		{"6.1.3 something in the middle", frames(frame(textMore, ""), frame(more, "middle"), frame(rest, "")), []string{echoOf("middle")}},
		{"6.2.1 valid", frames(frame(text, hello)), []string{echoOf(hello)}},
		{"6.2.2 valid in two", frames(frame(textMore, hello[:12]), frame(rest, hello[12:])), []string{echoOf(hello)}},
		{"6.2.3 valid in octets", cut(text, hello, 1), []string{echoOf(hello)}},
		{"6.3.1 invalid", frames(frame(text, "κόσμε\xed\xa0\x80edited")), []string{closes(1007)}},
		{"6.3.2 invalid in octets", cut(text, "κόσμε\xed\xa0\x80edited", 1), []string{closes(1007)}},
		// What is still missing is not waited for.
		{"6.4.1 the second fragment is bad", frames(frame(textMore, "κόσμε"), frame(more, "\xf4\x90\x80\x80")), []string{closes(1007)}},
		{"6.4.2 the second fragment cannot become good", frames(frame(textMore, "κόσμε\xf4"), frame(more, "\x90")), []string{closes(1007)}},
		{"6.4.3 a piece of the frame is bad", frames(frame(text, "κόσμε\xf4\x90\x80\x80edited")[:6+15]), []string{closes(1007)}},
		{"6.4.4 a piece of the frame cannot become good", frames(frame(text, "κόσμε\xf4\x90\x80\x80edited")[:6+13]), []string{closes(1007)}},
	}
	for _, group := range sequences {
		for _, digits := range group.bytes {
			p, _ := hex.DecodeString(digits)
			want := []string{closes(1007)}
			if utf8.Valid(p) {
				want = []string{echoOf(string(p))}
			}
			cases = append(cases, conformance{group.name + " " + digits, frames(frame(text, string(p))), want})
		}
	}
	return cases
}

func closing() []conformance { // section 7
	big := filler(256 << 10)
	end := frame(closef, closeBody(1000, ""))
	cases := []conformance{
		{"7.1.1 message, then close", frames(frame(text, "Hello"), end), []string{echoOf("Hello"), closes(1000)}},
		{"7.1.2 close twice", frames(end, end), []string{closes(1000)}},
		{"7.1.3 ping behind a close", frames(end, frame(ping, "")), []string{closes(1000)}},
		{"7.1.4 text behind a close", frames(end, frame(text, "Hello")), []string{closes(1000)}},
		{"7.1.5 close within a message", frames(frame(textMore, "a"), end, frame(rest, "b")), []string{closes(1000)}},
		{"7.1.6 much, then close, then ping", frames(frame(text, big), end, frame(ping, "")), []string{echoOf(big), closes(1000)}},
		{"7.3.1 close without a code", frames(frame(closef, "")), []string{closes(0)}},
		{"7.3.2 close with half a code", frames(frame(closef, "\x03")), []string{closes(1002)}},
		{"7.3.3 close with a code", frames(end), []string{closes(1000)}},
		{"7.3.4 close with a reason", frames(frame(closef, closeBody(1000, "Hello World!"))), []string{closes(1000)}},
		{"7.3.5 close with a long reason", frames(frame(closef, closeBody(1000, filler(123)))), []string{closes(1000)}},
		{"7.3.6 close with a reason too long", frames(frame(closef, closeBody(1000, filler(124)))), []string{closes(1002)}},
		{"7.5.1 close with a reason that is not UTF-8", frames(frame(closef, closeBody(1000, "κόσμε\xed\xa0\x80edited"))), []string{closes(1007)}},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, conformance{fmt.Sprintf("7.7 code %d", code), frames(frame(closef, closeBody(code, ""))), []string{closes(code)}})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999} {
		cases = append(cases, conformance{fmt.Sprintf("7.9 code %d", code), frames(frame(closef, closeBody(code, ""))), []string{closes(1002)}})
	}
	for _, code := range []int{5000, 65535} {
		cases = append(cases, conformance{fmt.Sprintf("7.13 code %d", code), frames(frame(closef, closeBody(code, ""))), []string{closes(1002)}})
	}
	return cases
}

func limits() (cases []conformance) { // sections 9 and 10
	for _, n := range []int{64 << 10, 256 << 10, 1 << 20} {
		p := filler(n)
		cases = append(cases,
			conformance{fmt.Sprintf("9.1 text of %d", n), frames(frame(text, p)), []string{echoOf(p)}},
			conformance{fmt.Sprintf("9.2 binary of %d", n), frames(frame(binaryf, p)), []string{binaryOf(p)}})
	}
	p := filler(256 << 10)
	for _, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
		cases = append(cases,
			conformance{fmt.Sprintf("9.3 text in fragments of %d", size), cut(text, p, size), []string{echoOf(p)}},
			conformance{fmt.Sprintf("9.4 binary in fragments of %d", size), cut(binaryf, p, size), []string{binaryOf(p)}})
	}
	for _, size := range []int{0, 16, 64, 256, 1 << 10, 4 << 10} {
		m := filler(size)
		var send [][]byte
		var want []string
		for range 200 {
			send, want = append(send, frame(text, m), frame(binaryf, m)), append(want, echoOf(m), binaryOf(m))
		}
		cases = append(cases, conformance{fmt.Sprintf("9.7 many messages of %d", size), send, want})
	}
	long := filler(65536)
	return append(cases, conformance{"10.1.1 text in fragments of 1300", cut(text, long, 1300), []string{echoOf(long)}})
}

func TestConformance(t *testing.T) {
	for _, backend := range []string{"epoll", "easygo"} {
		t.Run(backend, func(t *testing.T) {
			addr := start(t, "-poller", backend, "-shards", "2")
			for _, section := range [][]conformance{framing(), pings(), reserved(), opcodes(), fragmentation(), utf8Text(), closing(), limits()} {
				for _, tc := range section {
					t.Run(tc.name, func(t *testing.T) { tc.run(t, addr) })
				}
			}
		})
	}
}

// chops are the ways in which the bytes of a case are written.
var chops = []struct {
	name string
	most int // bytes in all, above which it would take too long; 0: no matter
	chop func(frames [][]byte) [][]byte
}{
	{"at once", 0, func(f [][]byte) [][]byte { return [][]byte{flat(f)} }},
	{"frame by frame", 1 << 20, func(f [][]byte) [][]byte { return f }},
	{"in pieces of 997", 1 << 20, func(f [][]byte) [][]byte { return pieces(flat(f), 997) }},
	{"octet by octet", 2000, func(f [][]byte) [][]byte { return pieces(flat(f), 1) }},
}

func flat(f [][]byte) (all []byte) {
	for _, p := range f {
		all = append(all, p...)
	}
	return all
}

func pieces(p []byte, size int) (all [][]byte) {
	for len(p) > size {
		all, p = append(all, p[:size]), p[size:]
	}
	return append(all, p)
}

func (tc conformance) run(t *testing.T, addr string) {
	want, ends := tc.want, false
	if n := len(want); n > 0 {
		ends = strings.HasPrefix(want[n-1], "close")
	}
	send := tc.send
	if !ends {
		send = append(send[:len(send):len(send)], frame(closef, closeBody(1000, "")))
		want = append(want[:len(want):len(want)], closes(1000))
	}
	for _, way := range chops {
		if size := len(flat(send)); way.most > 0 && size > way.most {
			continue
		}
		c := dial(t, addr)
		go c.write(way.chop(send))
		for i, want := range want {
			if got := c.describe(); got != want {
				t.Fatalf("%s: %dth frame: got %.80s, want %.80s", way.name, i+1, got, want)
			}
		}
		if n, err := io.Copy(io.Discard, c.r); n != 0 || err != nil {
			t.Fatalf("%s: %d bytes and %v behind the close frame, want the end of the stream", way.name, n, err)
		}
		c.Close()
	}
}

// write goes on until the server has closed.
func (c *client) write(chops [][]byte) {
	for _, p := range chops {
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

// describe reads a frame and puts it in the words of a case.
func (c *client) describe() string {
	c.t.Helper()
	op, payload := c.read()
	switch op {
	case ws.OpText:
		return echoOf(string(payload))
	case ws.OpBinary:
		return binaryOf(string(payload))
	case ws.OpPong:
		return pongOf(string(payload))
	case ws.OpClose:
		if len(payload) == 0 {
			return closes(0)
		}
		return closes(int(binary.BigEndian.Uint16(payload)))
	}
	return fmt.Sprintf("opcode %#x %q", op, payload)
}
