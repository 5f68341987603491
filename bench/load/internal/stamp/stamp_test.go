package stamp

import (
	"encoding/json"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var example = Stamp{Run: 42, Topic: 7, Sequence: 1000, Number: 50_000, Sent: 100_000_000_000}

func TestText(t *testing.T) {
	const want = "@pb1:0000002a:00000007:000003e8:0000c350:000000174876e800;"
	if got := string(example.Append(nil)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if len(want) != Size {
		t.Errorf("Size is %d, but a stamp has %d bytes", Size, len(want))
	}
}

func TestFind(t *testing.T) {
	text := string(example.Append(nil))
	largest := Stamp{1<<32 - 1, 1<<32 - 1, 1<<32 - 1, 1<<32 - 1, 1<<63 - 1}
	f := func(message string, want Stamp, found bool) {
		t.Helper()
		got, n := Find([]byte(message))
		if got != want || n > 0 != found {
			t.Errorf("%q: %v, %d", message, got, n)
		}
		if found && message[:n][n-1] != ';' {
			t.Errorf("%q: the stamp does not end at %d", message, n)
		}
	}
	f(text, example, true)
	f(`{"type":"message","data":{"stamp":"`+text+`"}}`, example, true)
	f(string(largest.Append([]byte("x"))), largest, true)
	f(string(Stamp{}.Append(nil)), Stamp{}, true)
	f("@pb1:@pb1:"+text, example, true) // a mark by itself hides no stamp
	f("@pb1:0000002G"+text, example, true)
	f(text[:len(text)-1], Stamp{}, false)
	f(text[:len(text)-1]+",", Stamp{}, false)
	f(`{"type":"welcome"}`, Stamp{}, false)
	f("", Stamp{}, false)
}

func TestPayload(t *testing.T) {
	for _, size := range []int{0, MinPayload, MinPayload + 1, 128, 4096} {
		b := AppendPayload(nil, example, size)
		if want := max(size, MinPayload); len(b) != want {
			t.Errorf("size %d: %d bytes, want %d", size, len(b), want)
		}
		if !json.Valid(b) {
			t.Errorf("size %d: not JSON: %s", size, b)
		}
		if got, n := Find(b); n == 0 || got != example {
			t.Errorf("size %d: found %v, %d", size, got, n)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	b := AppendPayload(nil, example, 128)
	if n := testing.AllocsPerRun(100, func() { Find(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Two clocks, as of two processes, agree.
func TestClock(t *testing.T) {
	a, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	first, between, last := a.Now(), b.Now(), a.Now()
	const slack = 1_000_000_000 // a machine that stopped between two readings of NewClock; another clock is off by more
	if between < first-slack || between > last+slack {
		t.Errorf("a clock reads %d, another %d, then the first %d", first, between, last)
	}
}

func FuzzFind(f *testing.F) {
	f.Add(example.Append(nil))
	f.Add(AppendPayload([]byte("@pb1:"), example, 200))
	f.Add([]byte("@pb1:00000000:"))
	model := regexp.MustCompile(`@pb1:([0-9a-f]{8}):([0-9a-f]{8}):([0-9a-f]{8}):([0-9a-f]{8}):([0-9a-f]{16});`)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, n := Find(b)
		parts := model.FindSubmatchIndex(b)
		if n > 0 != (parts != nil) {
			t.Fatalf("found %d, the model %v", n, parts)
		}
		if n == 0 {
			return
		}
		if n != parts[1] {
			t.Fatalf("ends at %d, the model at %d", n, parts[1])
		}
		number := func(i int) uint64 {
			v, err := strconv.ParseUint(string(b[parts[2*i]:parts[2*i+1]]), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		want := Stamp{uint32(number(1)), uint32(number(2)), uint32(number(3)), uint32(number(4)), int64(number(5))}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	message := append([]byte(`{"type":"message","topic":"fanout.0","time":1732212345678,"data":`), AppendPayload(nil, example, 128)...)
	b.ReportAllocs()
	for b.Loop() {
		if _, n := Find(message); n == 0 {
			b.Fatal("not found")
		}
	}
}
