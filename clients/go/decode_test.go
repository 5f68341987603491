package pushd

import (
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/pushd/pushd/internal/wire"
)

// What pushd writes is read the fast way, and in any other way means the same.
func TestDecodeMessage(t *testing.T) {
	f := func(text string, fast bool) {
		t.Helper()
		got, ok := decodeMessage([]byte(text))
		if ok != fast {
			t.Errorf("%s: fast is %v", text, ok)
		}
		var m envelope
		err := decode([]byte(text), &m)
		if !ok || err != nil {
			if ok {
				t.Errorf("%s: %v", text, err)
			}
			return
		}
		if want := m.message([]byte(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	for _, payload := range []string{`{"a":[1,"}"]}`, "text", "\xff\xfe", `17`, `"}"`, "", `,"encoding":"base64"}`} {
		for _, cursor := range []string{"", "k3.41"} {
			f(string(wire.AppendMessage(nil, "a.b", cursor, 1732212345678, []byte(payload))), true)
		}
	}
	f(`{"type":"message","topic":"a","time":1,"data":2}`, true)
	f(`{"type":"message","topic":"a","time":1,"data":2,"later":3}`, false)
	f(`{"topic":"a","type":"message","time":1,"data":2}`, false)
	f(`{"type":"message","topic":"a\u002eb","time":1,"data":2}`, false)
	f(`{"type":"message","topic":"a","time":1e3,"data":2}`, false)
	f(`{"type":"message","topic":"a","time":01,"data":2}`, false)
	f("{\"type\":\"message\",\"topic\":\"a\n\",\"time\":1,\"data\":2}", false)
	f(`{"type":"message","topic":"a","time":99999999999999999999,"data":2}`, false)
	f(`{"type":"message","topic":"a","data":2}`, false)
	for n := range len(`{"type":"message","topic":"a","cursor":"k","time":1,"data":2}`) {
		f(`{"type":"message","topic":"a","cursor":"k","time":1,"data":2}`[:n], false)
	}
}

// What is read the fast way is what encoding/json reads.
func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte(`{"type":"message","topic":"a.b","cursor":"k3.41","time":1732212345678,"data":{"a":[1,"}"]}}`))
	f.Add([]byte(`{"type":"message","topic":"a","time":1,"data":"3q2+7w==","encoding":"base64"}`))
	f.Add([]byte(`{"type":"message","topic":"a","time":1,"data":2,"data":3}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := decodeMessage(text)
		if !ok || !utf8.Valid(text) { // which no message is that comes here
			return
		}
		var m envelope
		if err := decode(text, &m); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if want := m.message(text); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, want %+v", text, got, want)
		}
	})
}

// A message costs its own bytes, and its names.
func TestDecodeAllocations(t *testing.T) {
	text := []byte(`{"type":"message","topic":"stocks.AAPL","cursor":"k3.42","time":1732212345678,"data":{"price":187.2}}`)
	if n := testing.AllocsPerRun(1000, func() { decodeMessage(text) }); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	text := []byte(`{"type":"message","topic":"stocks.AAPL","cursor":"k3.42","time":1732212345678,"data":{"price":187.2}}`)
	b.Run("fast", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decodeMessage(text)
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m envelope
			if err := json.Unmarshal(text, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
