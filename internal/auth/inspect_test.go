package auth

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestInspectKeySet(t *testing.T) {
	set := `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","alg":"EdDSA"}]}`
	made := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	p := newPublisher(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Age", "120")
		w.Header().Set("Date", made.Format(http.TimeFormat))
		text200(set)(w, r)
	})
	found, err := InspectKeySet(t.Context(), p.URL)
	if want := (KeySetInspection{Keys: 1, Age: 2 * time.Minute, Date: made.Add(2 * time.Minute)}); err != nil || found != want {
		t.Errorf("%+v, %v; want %+v", found, err, want)
	}
	p.publish(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Age", "-1")
		w.Header()["Date"] = nil
		text200(set)(w, r)
	})
	if found, err := InspectKeySet(t.Context(), p.URL); err != nil || found != (KeySetInspection{Keys: 1}) {
		t.Errorf("%+v, %v", found, err)
	}
	for address, want := range map[string]string{p.URL + "/?secret=s": "status 503", "http://keys.example.com/": "https://"} {
		p.publish(fails)
		if _, err := InspectKeySet(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret=") {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}
