package via

import (
	"net/netip"
	"strings"
	"testing"
)

func networks(t testing.TB, list ...string) Networks {
	t.Helper()
	n, err := ParseNetworks(list)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestClient(t *testing.T) {
	trusted := networks(t, "10.0.0.0/8", "fd00::/8")
	const proxy = "10.0.0.1"
	f := func(from, want string, lines ...string) {
		t.Helper()
		var h Headers
		for _, line := range lines {
			if value, ok := strings.CutPrefix(line, "Forwarded: "); ok {
				h.Forwarded = append(h.Forwarded, value)
			} else {
				h.ForwardedFor = append(h.ForwardedFor, line)
			}
		}
		client, claim := h.Client(netip.MustParseAddr(from), trusted)
		if got := client.String(); got != want {
			t.Errorf("%q from %s: %s, want %s", lines, from, got, want)
		}
		wantClaim := Named
		switch {
		case len(lines) == 0 || !trusted.Contains(netip.MustParseAddr(from)):
			wantClaim = Silent
		case want == from:
			wantClaim = Unbelieved
		}
		if claim != wantClaim {
			t.Errorf("%q from %s: claim %d, want %d", lines, from, claim, wantClaim)
		}
	}
	// Who is not trusted is believed nothing.
	f("192.0.2.1", "192.0.2.1", "203.0.113.7")
	f("192.0.2.1", "192.0.2.1", "Forwarded: for=203.0.113.7")
	f(proxy, proxy)

	// The last that is no trusted proxy's.
	f(proxy, "203.0.113.7", "203.0.113.7")
	f("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7")
	f("fd00::1", "203.0.113.7", "203.0.113.7")
	f(proxy, "203.0.113.7", "198.51.100.1, 203.0.113.7")
	f(proxy, "203.0.113.7", "127.0.0.1, 203.0.113.7, 10.0.0.9,\t10.0.0.2")
	f(proxy, "203.0.113.7", "198.51.100.1", "203.0.113.7, 10.0.0.9", "10.0.0.2")
	f(proxy, "203.0.113.7", "nonsense, <script>, 203.0.113.7")
	f(proxy, "10.9.9.9", "10.9.9.9, 10.0.0.9") // all are trusted
	f(proxy, "127.0.0.1", "127.0.0.1")

	// Ways to write an address.
	f(proxy, "203.0.113.7", "203.0.113.7:4711")
	f(proxy, "2001:db8::7", "2001:db8::7")
	f(proxy, "2001:db8::7", "[2001:db8::7]")
	f(proxy, "2001:db8::7", "[2001:db8::7]:4711")
	f(proxy, "203.0.113.7", "::ffff:203.0.113.7")

	// What cannot be read leaves the proxy's own.
	for _, bad := range []string{
		"", "unknown", "_hidden", "203.0.113.7,", "203.0.113.7, unknown", "203.0.113", "203.0.113.07", "[203.0.113.7]", "fe80::1%eth0",
		"203.0.113.7:99999", "[2001:db8::7", "2001:db8::7]", "203.0.113.7 198.51.100.1", `"203.0.113.7"`, "203.0.113.7;",
	} {
		f(proxy, proxy, bad)
	}
	f(proxy, proxy, strings.TrimSuffix(strings.Repeat("10.0.0.2,", maxHops+1), ","))

	// RFC 7239.
	f(proxy, "192.0.2.60", "Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43")
	f(proxy, "2001:db8:cafe::17", `Forwarded: For="[2001:db8:cafe::17]:4711"`)
	f(proxy, "198.51.100.17", "Forwarded: for=192.0.2.43, for=198.51.100.17")
	f(proxy, "198.51.100.17", "Forwarded: for=192.0.2.43", `Forwarded: by=x ,host="a, b";FOR="198.51.100.17:80" , for=10.0.0.2`)
	f(proxy, "192.0.2.43", `Forwarded: for="192.0.2.4\3"`)
	for _, bad := range []string{
		"for=unknown", `for="_gazonk"`, "for=_SEVKISEK", "by=203.0.113.43", "for=192.0.2.43, by=10.0.0.2", "for=192.0.2.43,", "for=192.0.2.43, ",
		`for=2001:db8::7`, `for="2001:db8::7"`, `for="192.0.2.43`, `for="192.0.2.43\`, "for=192.0.2.43;for=198.51.100.17", "for = 192.0.2.43", "192.0.2.43", "for=192.0.2.43;", "for=192.0.2.43 for=1.1.1.1", "",
	} {
		f(proxy, proxy, "Forwarded: "+bad)
	}

	// Of two headers, one may be what the client has made up.
	f(proxy, "203.0.113.7", "203.0.113.7", "Forwarded: for=203.0.113.7")
	f(proxy, proxy, "203.0.113.7", "Forwarded: for=198.51.100.1")
	f(proxy, proxy, "203.0.113.7", "Forwarded: for=unknown")
	f(proxy, proxy, "unknown", "Forwarded: for=203.0.113.7")
}

// Whatever a client writes into the header that its proxy appends to, it is
// known by its own address, or by the proxy's.
func FuzzClient(f *testing.F) {
	f.Add("198.51.100.1", "")
	f.Add(`for="`, `x=", for=1.1.1.1`)
	f.Add(`for=1.1.1.1, x="\`, "10.0.0.2")
	f.Add("1.1.1.1,,", `"`)
	trusted := networks(f, "10.0.0.0/8")
	proxy, client := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::7")
	f.Fuzz(func(t *testing.T, line, further string) {
		for _, made := range []Headers{
			{ForwardedFor: []string{line, further + ", 2001:db8::7"}},
			{ForwardedFor: []string{line, further, "2001:db8::7"}},
			{ForwardedFor: []string{line + ", [2001:db8::7]:5"}, Forwarded: []string{further}}, // passed on by the proxy
			{Forwarded: []string{line, further + `, for="[2001:db8::7]"`}},
			{Forwarded: []string{line, further, `for="[2001:db8::7]:4711";by=10.0.0.1`}},
			{Forwarded: []string{line + `, for="[2001:db8::7]";proto=https`}, ForwardedFor: []string{further}},
		} {
			if got, claim := made.Client(proxy, trusted); (got != client || claim != Named) && (got != proxy || claim != Unbelieved) {
				t.Fatalf("%+v: a client made itself %v, claim %d", made, got, claim)
			}
		}
		// And by a chain of proxies.
		if got, _ := (Headers{ForwardedFor: []string{line + ", 2001:db8::7, 10.0.0.3", "10.0.0.2"}}).Client(proxy, trusted); got != client {
			t.Fatalf("behind three proxies it is %v", got)
		}
		if got, _ := (Headers{ForwardedFor: []string{line}, Forwarded: []string{further}}).Client(client, trusted); got != client {
			t.Fatalf("who is no proxy made itself %v", got)
		}
	})
}

func TestNetworks(t *testing.T) {
	n := networks(t, "10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120", "fe80::/10")
	for address, want := range map[string]bool{
		"10.255.0.1": true, "11.0.0.1": false, "192.0.2.7": true, "192.0.2.8": false, "::ffff:10.0.0.1": true,
		"2001:db8:ffff::1": true, "2001:db9::1": false, "198.51.100.200": true, "198.51.101.1": false, "fe80::1%eth0": true, "::1": false,
	} {
		if got := n.Contains(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if n.Contains(netip.Addr{}) || Networks(nil).Contains(netip.MustParseAddr("10.0.0.1")) {
		t.Error("what is no address is contained, or no network contains one")
	}
	for _, bad := range []string{"", "localhost", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/255.0.0.0", "fe80::1%eth0", "::ffff:0:0/90", "10.0.0.0-10.0.0.9"} {
		if _, err := ParseNetworks([]string{bad}); err == nil || !strings.Contains(err.Error(), `"`+bad+`"`) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
