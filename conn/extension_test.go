package conn

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

var offerCases = []struct {
	offer, want string // "": declined
}{
	{"permessage-deflate", agreed},
	{"permessage-deflate; client_max_window_bits", agreed}, // browsers
	{"permessage-deflate;client_max_window_bits=15", agreed},
	{" permessage-deflate ; client_max_window_bits = 8\t;  server_no_context_takeover;client_no_context_takeover ", agreed},
	{`permessage-deflate; client_max_window_bits="10"`, agreed},
	{`permessage-deflate; client_max_window_bits="1\0"`, agreed},
	{"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", agreed + "; server_max_window_bits=12"}, // as a client does that saves memory
	{`permessage-deflate; server_max_window_bits="15"`, agreed + "; server_max_window_bits=15"},

	// Further offers: the first that will do (RFC 7692, 5).
	{"permessage-deflate; server_max_window_bits=10, permessage-deflate", agreed},
	{"permessage-deflate; server_max_window_bits=13, permessage-deflate; server_max_window_bits=14", agreed + "; server_max_window_bits=13"},
	{"x-webkit-deflate-frame, permessage-bzip2; level=9, permessage-deflate; client_max_window_bits", agreed},
	{",, permessage-deflate ,\t,", agreed},
	{`foo; bar="baz", permessage-deflate`, agreed},

	// Offers that cannot be accepted.
	{"", ""},
	{"permessage-bzip2", ""},
	{"Permessage-Deflate", ""}, // as those do who know it by that name alone
	{"permessage-deflate2", ""},
	{"permessage-deflate; server_max_window_bits=11", ""}, // we refer back further
	{"permessage-deflate; server_max_window_bits=8", ""},
	{"permessage-deflate; server_max_window_bits=7", ""},
	{"permessage-deflate; server_max_window_bits=16", ""},
	{"permessage-deflate; server_max_window_bits=015", ""},
	{"permessage-deflate; server_max_window_bits=+15", ""},
	{"permessage-deflate; server_max_window_bits=1e1", ""},
	{"permessage-deflate; server_max_window_bits", ""},
	{"permessage-deflate; client_max_window_bits=7", ""},
	{"permessage-deflate; client_max_window_bits=16", ""},
	{"permessage-deflate; client_max_window_bits=true", ""},
	{"permessage-deflate; server_no_context_takeover=1", ""},
	{`permessage-deflate; client_no_context_takeover="x"`, ""},
	{"permessage-deflate; unknown", ""},
	{"permessage-deflate; unknown=1", ""},
	{"permessage-deflate; Client_Max_Window_Bits", ""},
	{"permessage-deflate; client_max_window_bits; client_max_window_bits=10", ""},
	{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},

	// What is no list of extensions.
	{"permessage-deflate;", ""},
	{"permessage-deflate; ;client_max_window_bits", ""},
	{"permessage-deflate client_max_window_bits", ""},
	{"permessage-deflate; client_max_window_bits=", ""},
	{`permessage-deflate; client_max_window_bits=""`, ""},
	{`permessage-deflate; client_max_window_bits="15`, ""},
	{`permessage-deflate; client_max_window_bits="15\`, ""},
	{`permessage-deflate; client_max_window_bits="1 5"`, ""},
	{`permessage-deflate; client_max_window_bits=15 15`, ""},
	{`permessage-deflate, "`, ""},
	{"permessage-deflate, =", ""},
	{";", ""},
	{"=", ""},
	{"permessage-deflate; a=b=c", ""},
	{"permessage-deflate\x80", ""},
}

func accepted(offer string) string {
	o, ok := acceptable([]byte(offer))
	if !ok {
		return ""
	}
	return strings.TrimPrefix(string(appendAccepted(nil, o)), "\r\nSec-WebSocket-Extensions: ")
}

func TestOffers(t *testing.T) {
	for _, tc := range offerCases {
		if got := accepted(tc.offer); got != tc.want {
			t.Errorf("%q is answered %q, want %q", tc.offer, got, tc.want)
		}
	}
}

// The head of a 101, for offers in one line and in several, with compression and without.
func TestOfferHeads(t *testing.T) {
	head := func(lines ...string) []byte {
		extensions := ""
		for _, line := range lines {
			extensions += "\r\nsec-websocket-EXTENSIONS: " + line
		}
		return []byte(strings.Replace(plainRequest, "\r\n\r\n", extensions+"\r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: a\r\n\r\n", 1))
	}
	for _, tc := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"permessage-deflate; client_max_window_bits"}, agreed},
		{[]string{"foo", "bar; x=y", "permessage-deflate"}, agreed},
		{[]string{"permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=12"}, agreed + "; server_max_window_bits=12"},
		{[]string{"permessage-deflate", "\""}, ""}, // one list, which does not conform
	} {
		for _, deflate := range []bool{true, false} {
			want := tc.want
			if !deflate {
				want = ""
			}
			h := newHandshaker([]string{"a"}, deflate)
			response, req, refused := h.upgrade(head(tc.lines...), nil)
			if refused != nil {
				t.Fatalf("%q: refused: %+v", tc.lines, refused)
			}
			if req.Deflate != (want != "") || req.Protocol != "a" || req.Offered != "x, a" {
				t.Errorf("%q: deflate %v, request %+v", tc.lines, deflate, req)
			}
			checkResponse(t, response, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "a", want)
		}
	}
}

// Negotiating costs nothing beside what a handshake costs.
func TestOfferAllocs(t *testing.T) {
	h := newHandshaker(nil, true)
	head := []byte(strings.Replace(plainRequest, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n", 1))
	dst := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if _, req, _ := h.upgrade(head, dst); !req.Deflate {
			t.Fatal("declined")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

const (
	modelTok   = "[-!#$%&'*+.^_`|~0-9A-Za-z]+"
	modelQuote = `"(?:[^"\\]|\\.)*"`
	modelParam = `[ \t]*;[ \t]*(` + modelTok + `)(?:[ \t]*=[ \t]*(` + modelTok + `|` + modelQuote + `))?`
)

var (
	modelElement = regexp.MustCompile(`^(` + modelTok + `)((?:` + modelParam + `)*)[ \t]*(?:,|$)`)
	modelParams  = regexp.MustCompile(modelParam)
	modelUnquote = regexp.MustCompile(`\\(.)`)
	modelOnlyTok = regexp.MustCompile("^" + modelTok + "$")
)

// modelAccept is acceptable and its answer by regular expressions and maps.
func modelAccept(list string) (answer string) {
	for {
		list = strings.TrimLeft(list, ", \t")
		if list == "" {
			return answer
		}
		element := modelElement.FindStringSubmatch(list)
		if element == nil {
			return ""
		}
		list = list[len(element[0]):]
		fits, seen := element[1] == "permessage-deflate", map[string]bool{}
		reply := agreed
		for _, param := range modelParams.FindAllStringSubmatch(element[2], -1) {
			name, value, hasValue := param[1], param[2], strings.Contains(strings.TrimSuffix(param[0], param[2]), "=")
			if strings.HasPrefix(value, `"`) {
				if value = modelUnquote.ReplaceAllString(value[1:len(value)-1], "$1"); !modelOnlyTok.MatchString(value) {
					return ""
				}
			}
			bits, err := strconv.Atoi(value)
			isBits := err == nil && 8 <= bits && bits <= 15 && strconv.Itoa(bits) == value
			switch {
			case seen[name]:
				fits = false
			case strings.HasSuffix(name, "_no_context_takeover") && (name[:6] == "server" || name[:6] == "client") && len(name) == len("client_no_context_takeover"):
				fits = fits && !hasValue
			case name == "client_max_window_bits":
				fits = fits && (!hasValue || isBits)
			case name == "server_max_window_bits":
				fits = fits && isBits && bits >= 12
				reply += "; server_max_window_bits=" + value
			default:
				fits = false
			}
			seen[name] = true
		}
		if fits && answer == "" {
			answer = reply
		}
	}
}

func FuzzOffer(f *testing.F) {
	for _, tc := range offerCases {
		f.Add(tc.offer)
	}
	f.Fuzz(func(t *testing.T, offer string) {
		if strings.ContainsAny(offer, "\r\n") {
			return // it is one header line, or several that were joined
		}
		if got, want := accepted(offer), modelAccept(offer); got != want {
			t.Fatalf("%q is answered %q, by the model %q", offer, got, want)
		}
	})
}
