package pushd

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestResponseError(t *testing.T) {
	f := func(head string, want time.Duration, temporary bool) {
		t.Helper()
		response, err := http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 "+head+"\r\n\r\n")), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		no := ResponseError(response)
		if no.RetryAfter != want || no.Temporary() != temporary {
			t.Errorf("%q: after %v, temporary %v", head, no.RetryAfter, no.Temporary())
		}
	}
	f("503 x\r\nRetry-After: 3", 3*time.Second, true)
	f("429 x\r\nRetry-After: soon", 0, true)
	f("503 x", 0, true)
	f("403 x\r\nRetry-After: -1", 0, false)
}
