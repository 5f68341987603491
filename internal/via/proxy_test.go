package via

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// v2 makes a header of version 2.
func v2(command, family byte, body string) string {
	return proxyV2 + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
}

const (
	four = "\xcb\x00\x71\x07" + "\xc0\x00\x02\x01" + "\x10\x92" + "\x00\x50" // 203.0.113.7 to 192.0.2.1
	six  = "\x20\x01\x0d\xb8\x00\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x10\x92" + "\x00\x50"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xcb\x00\x71\x07" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" + "\x10\x92" + "\x00\x50"
)

func TestReadProxy(t *testing.T) {
	good := func(header, want string) {
		t.Helper()
		a, size, err := ReadProxy([]byte(header + "GET / HTTP/1.1\r\n"))
		if err != nil || size != len(header) {
			t.Errorf("%q: size %d, %v", header, size, err)
		}
		if got := a.String(); got != want {
			t.Errorf("%q: from %s, want %s", header, got, want)
		}
		for i := range len(header) {
			if _, size, err := ReadProxy([]byte(header[:i])); size != 0 || err != nil {
				t.Errorf("%d bytes of %q: size %d, %v; want to wait for more", i, header, size, err)
			}
		}
	}
	const nobody = "invalid IP"
	good("PROXY TCP4 203.0.113.7 192.0.2.1 4242 80\r\n", "203.0.113.7")
	good("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255")
	good("PROXY TCP6 2001:db8::7 2001:db8::1 0 443\r\n", "2001:db8::7")
	good("PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 1 2\r\n", "203.0.113.7")
	good("PROXY UNKNOWN\r\n", nobody)
	good("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", nobody)
	good(v2(proxyProxied, proxyTCP4, four), "203.0.113.7")
	good(v2(proxyProxied, proxyTCP4, four+"\x03\x00\x04\x12\x34\x56\x78"), "203.0.113.7") // with a TLV
	good(v2(proxyProxied, proxyTCP6, six), "2001:db8:1:2::7")
	good(v2(proxyProxied, proxyTCP6, mapped), "203.0.113.7")
	good(v2(proxyLocal, proxyTCP4, four), nobody)
	good(v2(proxyLocal, proxyUnspec, ""), nobody)
	good(v2(proxyProxied, proxyUnspec, "whatever"), nobody)
	good(v2(proxyProxied, proxyUnix, strings.Repeat("x", 216)), nobody)
	good(v2(proxyProxied, proxyTCP4, four+strings.Repeat("t", maxProxyV2-len(four))), "203.0.113.7")

	bad := func(header string, want error) {
		t.Helper()
		if a, size, err := ReadProxy([]byte(header)); !errors.Is(err, want) || size != 0 || a.IsValid() {
			t.Errorf("%q: from %v, size %d, %v; want %v", header, a, size, err, want)
		}
	}
	bad("GET / HTTP/1.1\r\n", ErrNoProxyHeader)
	bad("POST / HTTP/1.1\r\n", ErrNoProxyHeader)
	bad("PO", ErrNoProxyHeader) // with the first byte that shows it
	bad("\x16\x03\x01", ErrNoProxyHeader)
	bad("\r\n\r\n\x00\r\nQUIX", ErrNoProxyHeader)
	bad("proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n", ErrNoProxyHeader)
	for _, line := range []string{
		"", "TCP4", "TCP4 203.0.113.7 192.0.2.1 1", "TCP4 203.0.113.7 192.0.2.1 1 2 3", "TCP4  203.0.113.7 192.0.2.1 1 2",
		"TCP4 203.0.113.7 192.0.2.1 1 65536", "TCP4 203.0.113.7 192.0.2.1 01 2", "TCP4 203.0.113.7 192.0.2.1 -1 2", "TCP4 203.0.113.7 192.0.2.1 1 +2",
		"TCP4 203.0.113.07 192.0.2.1 1 2", "TCP4 203.0.113.256 192.0.2.1 1 2", "TCP4 localhost 192.0.2.1 1 2",
		"TCP4 2001:db8::7 2001:db8::1 1 2", "TCP6 203.0.113.7 192.0.2.1 1 2", "TCP6 fe80::1%eth0 ::1 1 2", "UDP4 203.0.113.7 192.0.2.1 1 2",
	} {
		bad("PROXY "+line+"\r\n", ErrProxyHeader)
	}
	bad("PROXY "+strings.Repeat("x", 200), ErrProxyTooLong)
	bad("PROXY UNKNOWN "+strings.Repeat("x", 100)+"\r\n", ErrProxyTooLong)
	bad(v2(0x11, proxyTCP4, four), ErrProxyHeader) // version 1 in version 2
	bad(v2(0x22, proxyTCP4, four), ErrProxyHeader) // a command that nobody knows
	bad(v2(proxyProxied, 0x41, four), ErrProxyHeader)
	bad(v2(proxyProxied, proxyTCP4, four[:11]), ErrProxyHeader)
	bad(v2(proxyProxied, proxyTCP6, six[:35]), ErrProxyHeader)
	bad(v2(proxyProxied, proxyUDP4, four), ErrProxyUntakable)
	bad(proxyV2+"\x21\x11\xff\xff", ErrProxyTooLong) // before any of it has come
}

// The header is found whatever pieces it comes in, nothing is read beyond it,
// and what is made by the book is understood.
func FuzzReadProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.7 192.0.2.1 4242 80\r\nGET"), uint32(1), uint16(2))
	f.Add([]byte(v2(proxyProxied, proxyTCP6, six)), uint32(3), uint16(4))
	f.Add([]byte(v2(proxyLocal, proxyUnspec, "")), uint32(5), uint16(6))
	f.Fuzz(func(t *testing.T, p []byte, ip uint32, port uint16) {
		kept := slices.Clone(p)
		a, size, err := ReadProxy(p)
		if !slices.Equal(p, kept) {
			t.Fatal("it changes what it reads")
		}
		if size > len(p) || size > proxyHead+maxProxyV2 || err != nil && (size != 0 || a.IsValid()) {
			t.Fatalf("size %d of %d, %v, %v", size, len(p), a, err)
		}
		if size == 0 && err == nil && len(p) >= proxyHead+maxProxyV2 {
			t.Fatalf("it wants more than %d bytes", len(p))
		}
		decided := false
		for i := range len(p) + 1 {
			b, n, e := ReadProxy(p[:i])
			if decided = decided || n != 0 || e != nil; !decided {
				continue
			}
			if b != a || n != size || !errors.Is(e, err) {
				t.Fatalf("after %d bytes %v, %d, %v; after all %v, %d, %v", i, b, n, e, a, size, err)
			}
		}

		want := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, ip)))
		line := fmt.Sprintf("PROXY TCP4 %v 192.0.2.1 %d 80\r\n", want, port)
		if got, n, err := ReadProxy([]byte(line + string(p))); got != want || n != len(line) || err != nil {
			t.Fatalf("%q: %v, %d, %v", line, got, n, err)
		}
		b4 := want.As4()
		header := v2(proxyProxied, proxyTCP4, string(b4[:])+four[4:])
		if got, n, err := ReadProxy([]byte(header + string(p))); got != want || n != len(header) || err != nil {
			t.Fatalf("%q: %v, %d, %v", header, got, n, err)
		}
	})
}
