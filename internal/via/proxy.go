package via

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, versions 1 and 2, as HAProxy's proxy-protocol.txt has it.
// The sections in the comments are those of that text.
const (
	maxProxyV1 = 107     // 2.1: the longest line, CRLF included
	maxProxyV2 = 2 << 10 // of what the header announces: addresses, and TLVs, which nobody reads here

	proxyV1   = "PROXY "
	proxyV2   = "\r\n\r\n\x00\r\nQUIT\n"
	proxyHead = len(proxyV2) + 4 // 2.2: version and command, family, length
)

// Why a PROXY header is refused.
var (
	ErrNoProxyHeader  = errors.New("the connection does not begin with a PROXY header")
	ErrProxyHeader    = errors.New("malformed PROXY header")
	ErrProxyTooLong   = errors.New("the PROXY header is too long")
	ErrProxyUntakable = errors.New("the PROXY header is of a kind that is no TCP connection")
)

// ReadProxy reads the PROXY header that p, all that has come of a connection,
// begins with. size is the header's length, and 0 while more is needed. source
// is the client's address, and not valid where the header says none: the proxy
// speaks for itself then (LOCAL), or does not know (UNKNOWN, UNSPEC), and the
// socket's own address stands. Whatever cannot become a header is refused with
// the first byte that shows it.
func ReadProxy(p []byte) (source netip.Addr, size int, err error) {
	switch {
	case len(p) == 0:
		return source, 0, nil
	case p[0] == proxyV1[0]:
		return readProxyV1(p)
	case p[0] == proxyV2[0]:
		return readProxyV2(p)
	}
	return source, 0, ErrNoProxyHeader
}

func readProxyV1(p []byte) (source netip.Addr, size int, err error) {
	if n := min(len(p), len(proxyV1)); string(p[:n]) != proxyV1[:n] {
		return source, 0, ErrNoProxyHeader
	}
	line, _, found := bytes.Cut(p[:min(len(p), maxProxyV1)], []byte("\r\n"))
	switch {
	case !found && len(p) >= maxProxyV1:
		return source, 0, ErrProxyTooLong
	case !found:
		return source, 0, nil
	}
	size = len(line) + 2
	words := strings.Split(string(line), " ")
	if words[1] == "UNKNOWN" {
		return source, size, nil // 2.1: whatever follows is to be ignored
	}
	if len(words) != 6 {
		return source, 0, ErrProxyHeader
	}
	source, err1 := netip.ParseAddr(words[2])
	target, err2 := netip.ParseAddr(words[3])
	good := err1 == nil && err2 == nil && source.Zone() == "" && target.Zone() == "" && isPort(words[4]) && isPort(words[5])
	switch words[1] {
	case "TCP4":
		good = good && source.Is4() && target.Is4()
	case "TCP6":
		good = good && source.Is6() && target.Is6()
	default:
		good = false
	}
	if !good {
		return netip.Addr{}, 0, ErrProxyHeader
	}
	return source.Unmap(), size, nil
}

// isPort takes 0 to 65535 in decimal, without a leading zero (2.1).
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == text
}

// What the 13th and 14th byte of version 2 may be (2.2).
const (
	proxyLocal   = 0x20
	proxyProxied = 0x21

	proxyUnspec = 0x00
	proxyTCP4   = 0x11
	proxyUDP4   = 0x12
	proxyTCP6   = 0x21
	proxyUDP6   = 0x22
	proxyUnix   = 0x31
	proxyUnixD  = 0x32
)

func readProxyV2(p []byte) (source netip.Addr, size int, err error) {
	if n := min(len(p), len(proxyV2)); string(p[:n]) != proxyV2[:n] {
		return source, 0, ErrNoProxyHeader
	}
	if len(p) < proxyHead {
		return source, 0, nil
	}
	command, family := p[len(proxyV2)], p[len(proxyV2)+1]
	length := int(binary.BigEndian.Uint16(p[len(proxyV2)+2:]))
	if command != proxyLocal && command != proxyProxied {
		return source, 0, ErrProxyHeader // 2.2: the receiver must drop it
	}
	if length > maxProxyV2 {
		return source, 0, ErrProxyTooLong
	}
	if len(p) < proxyHead+length {
		return source, 0, nil
	}
	addresses := p[proxyHead : proxyHead+length]
	size = proxyHead + length
	if command == proxyLocal {
		return source, size, nil // 2.2: a health check of the proxy's own
	}
	switch family {
	case proxyUnspec, proxyUnix:
		return source, size, nil // 2.2: the receiver is to use the real endpoints
	case proxyTCP4:
		if len(addresses) < 12 {
			return source, 0, ErrProxyHeader
		}
		return netip.AddrFrom4([4]byte(addresses)), size, nil
	case proxyTCP6:
		if len(addresses) < 36 {
			return source, 0, ErrProxyHeader
		}
		return netip.AddrFrom16([16]byte(addresses)).Unmap(), size, nil
	case proxyUDP4, proxyUDP6, proxyUnixD:
		return source, 0, ErrProxyUntakable
	}
	return source, 0, ErrProxyHeader
}
