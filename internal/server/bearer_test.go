package server

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// TestVisitorsWaitTheirTurn has as many checks over HTTP under way as may: the
// next waits, and who shows nothing does not.
func TestVisitorsWaitTheirTurn(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.Workers = 1 })
	token := tokenFor(t, "alice", may{publish: "a"}, time.Hour)
	url := "http://" + r.Addr() + "/publish/a"
	for range cap(r.access.visitors) {
		r.access.visitors <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if answer, err := http.DefaultClient.Do(request); err == nil {
		answer.Body.Close()
		t.Errorf("answered with %d before its turn", answer.StatusCode)
	}
	if status, _, body := r.request("POST", url, "", "1"); status != 401 {
		t.Errorf("nothing shown: %d %s", status, body)
	}
	eventually(t, "who has gone is not checked", func() bool { return r.metric(`pushd_auth_total{result="busy"}`) == "1" })
	for range cap(r.access.visitors) {
		<-r.access.visitors
	}
	if status, _, body := r.request("POST", url, "", "1", "Authorization", "Bearer "+token); status != 202 {
		t.Errorf("in its turn: %d %s", status, body)
	}
	if n := r.metric(`pushd_auth_total{result="ok"}`); n != "1" {
		t.Errorf("%s checks, want 1", n)
	}
}

// TestHistoryRate refuses requests for history beyond the rate of an address,
// before their credentials are looked at.
func TestHistoryRate(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.Unlimited, c.MaxPublishRate = []string{"none"}, 1 })
	got := map[int]int{}
	for range 30 {
		status, _, _ := r.request("GET", "http://"+r.Addr()+"/history/a.b", "", "", "Authorization", "Bearer x")
		got[status]++
	}
	if got[401] < 10 || got[429] == 0 || got[401]+got[429] != 30 {
		t.Errorf("%v", got)
	}
}
