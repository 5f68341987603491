package stamp

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"testing"
)

// A tick is JSON of the length asked for, with its stamp, and no two are alike; it compresses as such messages do.
func TestTick(t *testing.T) {
	seen := map[string]bool{}
	for topic := range uint32(1_000) {
		for _, size := range []int{0, MinTick, 500, 1024, 4000} {
			s := Stamp{Run: 7, Topic: topic * 1_000, Sequence: 3, Number: topic*5 + uint32(size), Sent: 5}
			b := AppendTick(nil, s, size)
			if got, n := Find(b); n == 0 || got != s {
				t.Fatalf("the stamp of %s is %v", b, got)
			}
			var tick struct {
				Symbol     string
				Last, Open float64
				Book       []struct {
					Side         string
					Price        float64
					Size, Orders int
				}
			}
			if err := json.Unmarshal(b, &tick); err != nil || len(b) != max(size, MinTick) {
				t.Fatalf("%d bytes for %d: %v\n%s", len(b), size, err, b)
			}
			if seen[string(b)] || size > 500 && (len(tick.Book) < 5 || tick.Book[0].Price >= tick.Last || tick.Book[1].Price <= tick.Last) {
				t.Fatalf("no tick: %s", b)
			}
			seen[string(b)] = true
		}
	}
	var packed bytes.Buffer
	to, _ := flate.NewWriter(&packed, flate.BestSpeed)
	to.Write(AppendTick(nil, Stamp{Number: 1}, 1024))
	to.Flush()
	if n := packed.Len(); n < 200 || n > 512 {
		t.Errorf("1,024 bytes become %d", n)
	}
}
