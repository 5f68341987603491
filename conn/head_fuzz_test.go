package conn

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// modelScanHead finds the blank line by taking the lines apart.
func modelScanHead(p string) (end int, v verdict) {
	if p == "" {
		return 0, headNeedMore
	}
	if p[0] <= ' ' || p[0] >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, p[0]) >= 0 {
		return 0, headNotHTTP
	}
	for _, line := range strings.SplitAfter(p, "\n") {
		end += len(line)
		if end > maxHead {
			break
		}
		if line == "\n" || line == "\r\n" {
			return end, headComplete
		}
	}
	if len(p) >= maxHead {
		return 0, headTooLarge
	}
	return 0, headNeedMore
}

// FuzzHead compares scanHead with modelScanHead in one read and in a split
// drawn from seed, and WantsUpgrade with what net/http reads. pad is inserted
// as that many bytes of a header, to reach the limit.
func FuzzHead(f *testing.F) {
	for i, seed := range handshakeSeeds() {
		f.Add([]byte(seed), uint16(0), uint64(i))
		f.Add([]byte(seed), uint16(maxHead-len(seed)-len("Pad: \r\n")), uint64(i))
		f.Add([]byte(seed), uint16(maxHead-len(seed)-len("Pad: \r\n")+1), uint64(i))
	}
	f.Fuzz(func(t *testing.T, input []byte, pad uint16, seed uint64) {
		if i := bytes.IndexByte(input, '\n') + 1; i > 0 && pad > 0 && pad <= 2*maxHead {
			header := "Pad: " + strings.Repeat("x", int(pad)) + "\r\n"
			input = append(append(input[:i:i], header...), input[i:]...)
		}
		wantEnd, want := modelScanHead(string(input))

		end, v := scanHead(input, 0)
		if end != wantEnd || v != want {
			t.Fatalf("in one read: %d, verdict %d, the model has %d, %d", end, v, wantEnd, want)
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		for n, from := 0, 0; n < len(input); {
			n = min(n+1+rng.IntN(600), len(input))
			end, v := scanHead(input[:n], from)
			if v == headNeedMore && n < len(input) {
				from = n
				continue
			}
			if end != wantEnd || v != want {
				t.Fatalf("after %d bytes, %d of them seen: %d, verdict %d, the model has %d, %d", n, from, end, v, wantEnd, want)
			}
			break
		}

		if v != headComplete {
			return
		}
		head := input[:end]
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil || hasFold(string(head)) {
			WantsUpgrade(head) // whatever it says, without a panic
			return
		}
		wantUpgrade := req.Method == "GET" && req.Proto != "HTTP/1.0" && headerHas(req.Header, "Upgrade", "websocket")
		if got := WantsUpgrade(head); got != wantUpgrade {
			t.Fatalf("WantsUpgrade(%q) = %v, net/http has %v", head, got, req.Header["Upgrade"])
		}
	})
}

// hasFold reports whether a header line continues another, which net/http
// takes and conn refuses.
func hasFold(head string) bool {
	return strings.Contains(head, "\n ") || strings.Contains(head, "\n\t")
}

// headerHas reports whether one of the lists has the token, in any case of
// ASCII letters.
func headerHas(h http.Header, name, token string) bool {
	lower := func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	for _, list := range h[name] {
		for element := range strings.SplitSeq(list, ",") {
			if strings.Map(lower, strings.Trim(element, " \t")) == token {
				return true
			}
		}
	}
	return false
}
