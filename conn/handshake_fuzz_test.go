package conn

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const hostSet = `[-!$%&'()*+,.:;=\[\]_~0-9A-Za-z]+`

var (
	modelRequestLine = regexp.MustCompile(`^GET ([^\x00-\x20\x7f]+) HTTP/1\.[1-9]$`)
	modelTarget      = regexp.MustCompile(`^(?:(?i:https?)://(` + hostSet + `))?(/[^?#]*)?(?:\?([^#]*))?$`)
	modelHost        = regexp.MustCompile(`^` + hostSet + `$`)
	modelToken       = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")
)

// modelHandshake reads the headers with net/http and checks each rule of RFC
// 6455, 4.2.1, by itself. bad: the request is to be refused whatever its
// version; wrongVersion: Sec-WebSocket-Version is not 13.
func modelHandshake(head string) (req Request, key string, bad, wrongVersion bool) {
	line, headers, _ := strings.Cut(head, "\n")
	request := modelRequestLine.FindStringSubmatch(strings.TrimSuffix(line, "\r"))
	if request == nil {
		return req, "", true, false
	}
	target := modelTarget.FindStringSubmatch(request[1])
	if target == nil || target[1] == "" && target[2] == "" {
		return req, "", true, false
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\n" + headers)))
	if err != nil || hasFold(head) {
		return req, "", true, false
	}
	one := func(name string) string {
		values := r.Header[name]
		if len(values) > 1 {
			bad = true
		}
		return strings.Join(values, "")
	}
	for name := range r.Header {
		if !modelToken.MatchString(name) {
			bad = true // net/http takes names with spaces
		}
	}
	if len(r.TransferEncoding) > 0 || slices.ContainsFunc(r.Header["Content-Length"], func(v string) bool { return v != "0" }) {
		bad = true
	}
	if !modelHost.MatchString(r.Host) || !headerHas(r.Header, "Upgrade", "websocket") || !headerHas(r.Header, "Connection", "upgrade") {
		bad = true
	}
	key = one("Sec-Websocket-Key")
	if decoded, err := base64.StdEncoding.DecodeString(key); err != nil || len(decoded) != 16 {
		bad = true
	}
	wrongVersion = one("Sec-Websocket-Version") != "13"

	req = Request{
		Path: target[2], Query: target[3], Host: r.Host,
		Origin: one("Origin"), Authorization: one("Authorization"),
		UserAgent: r.Header.Get("User-Agent"),
		Offered:   strings.Join(r.Header["Sec-Websocket-Protocol"], ", "),
	}
	if target[1] != "" {
		req.Host = target[1]
	}
	if req.Path == "" {
		req.Path = "/"
	}
	for element := range strings.SplitSeq(req.Offered, ",") {
		element = strings.Trim(element, " \t")
		switch {
		case element == "":
		case !modelToken.MatchString(element):
			bad = true
		case req.Protocol == "" && slices.Contains(testProtocols, element):
			req.Protocol = element
		}
	}
	return req, key, bad, wrongVersion
}

func FuzzHandshake(f *testing.F) {
	for _, seed := range handshakeSeeds() {
		f.Add([]byte(seed))
	}
	h := newHandshaker(testProtocols, false)
	f.Fuzz(func(t *testing.T, input []byte) {
		end, v := scanHead(input, 0)
		if v != headComplete || !WantsUpgrade(input[:end]) {
			return
		}
		head := input[:end]
		before := bytes.Clone(head)
		want, key, bad, wrongVersion := modelHandshake(string(head))

		response, got, refused := h.upgrade(head, nil)
		if !bytes.Equal(head, before) {
			t.Fatalf("the head was changed")
		}
		if refused != nil {
			switch {
			case refused.Status == http.StatusUpgradeRequired && wrongVersion:
			case refused.Status == http.StatusBadRequest && bad:
			default:
				t.Fatalf("%q is refused: %+v; the model: bad %v, wrong version %v", head, refused, bad, wrongVersion)
			}
			if got != nil || len(response) > 0 {
				t.Fatalf("refused, yet there is a request %+v and a response %q", got, response)
			}
			return
		}
		if bad || wrongVersion {
			t.Fatalf("%q is upgraded; the model: bad %v, wrong version %v", head, bad, wrongVersion)
		}
		if *got != want {
			t.Fatalf("request %+v, the model has %+v", *got, want)
		}
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		checkSwitching(t, response, base64.StdEncoding.EncodeToString(sum[:]), want.Protocol)
	})
}
