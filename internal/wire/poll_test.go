package wire

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAppendPolled(t *testing.T) {
	for _, tc := range []struct{ messages, cursor, want string }{
		{"", "", `{"messages":[],"cursor":""}`},
		{`{"type":"gap"},`, "k3.1", `{"messages":[{"type":"gap"}],"cursor":"k3.1"}`},
		{`{"a":1},{"b":2},`, "k3.1,", `{"messages":[{"a":1},{"b":2}],"cursor":"k3.1,"}`},
	} {
		got := AppendPolled([]byte("x"), []byte(tc.messages), []byte(tc.cursor))
		if string(got) != "x"+tc.want || !json.Valid(got[1:]) {
			t.Errorf("%q, %q: %s, want %s", tc.messages, tc.cursor, got, tc.want)
		}
	}
}

func TestPollPlaces(t *testing.T) {
	f := func(topics int, want string, values ...string) {
		t.Helper()
		got, err := PollPlaces(values, topics)
		if want == "refused" {
			if err == nil || err.Code != BadRequest {
				t.Errorf("%q for %d topics: %q, %v; want a refusal", values, topics, got, err)
			}
			return
		}
		if err != nil || len(got) != topics || strings.Join(got, "|") != want {
			t.Errorf("%q for %d topics: %q, %v; want %q", values, topics, got, err, want)
		}
	}
	f(1, "")
	f(3, "||")
	f(3, "||", "")
	f(1, "a", "a")
	f(2, "a|b", "a,b")
	f(2, "|b", ",b")
	f(2, "a|", "a", "")
	f(3, "||", ",,")
	f(1, "refused", "a,b")
	f(1, "refused", "a", "b")
	f(2, "refused", "a")
	f(3, "refused", "a", "b")
	f(2, "refused", "a,b", "c", "d")
}

func TestParsePollWait(t *testing.T) {
	f := func(s string, want time.Duration, ok bool) {
		t.Helper()
		if got, err := ParsePollWait(s); got != want || (err == nil) != ok {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	f("", 25*time.Second, true)
	f("0", 0, true)
	f("0.25", 250*time.Millisecond, true)
	f("60", time.Minute, true)
	for _, s := range []string{"-1", "60.1", "NaN", "Inf", "-Inf", "25s", " 1", "1e9"} {
		f(s, 0, false)
	}
}

// FuzzPollPlaces holds that what an answer says is what the next request is taken
// for, and that anything else has one place for each topic, or is refused.
func FuzzPollPlaces(f *testing.F) {
	f.Add("k3.58.x7,k3.58.x7", 2)
	f.Add(",", 2)
	f.Add("", 3)
	f.Add("3w5e11264sgsf_41", 1)
	f.Fuzz(func(t *testing.T, value string, topics int) {
		if topics < 1 || topics > 64 {
			return
		}
		places, err := PollPlaces([]string{value}, topics)
		if (err == nil) != (len(places) == topics) {
			t.Fatalf("%q for %d topics: %q, %v", value, topics, places, err)
		}
		if err != nil {
			return
		}
		var again []byte
		for i, p := range places {
			if strings.Contains(p, pollSeparator) && topics > 1 {
				t.Fatalf("%q: place %q", value, p)
			}
			again = AppendPlace(again, i, p)
		}
		if value != "" && string(again) != value {
			t.Fatalf("%q is made again as %q", value, again)
		}
		each, err := PollPlaces(places, topics)
		if topics > 1 && (err != nil || !slices.Equal(each, places)) {
			t.Fatalf("one by one %q are %q, %v", places, each, err)
		}
	})
}
