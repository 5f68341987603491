package auth

import (
	"context"
	"testing"
)

// BenchmarkAuthenticate is what one set of credentials costs, whatever it
// is: what a flood of connections costs at most for each.
func BenchmarkAuthenticate(b *testing.B) {
	i := keysOf()
	plain, hash := NewAPIKey()
	s := i.openAll(b, Config{APIKeys: []APIKey{{Name: "a", Hash: hash}}})
	run := func(name, bearer string, want Reason) {
		b.Run(name, func(b *testing.B) {
			if got := reasonOf(b, s, bearer); got != want {
				b.Fatalf("%q, want %q", got, want)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = s.Authenticate(context.Background(), Credentials{Bearer: bearer})
			}
		})
	}
	for _, algorithm := range algorithms {
		token := i.sign(b, algorithm, claimMap(nil), nil)
		run(algorithm, token, "")
		run(algorithm+"-forged", token[:len(token)-30]+"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", BadSignature)
	}
	run("APIKey", plain, "")
	run("APIKey-unknown", plain+"0", UnknownKey)
	run("malformed", plain[6:], Malformed)
}

func BenchmarkMaySubscribe(b *testing.B) {
	r, err := NewRights([]string{"a.*.c", "b.>", "d.e.f.g", "x.*.y.>"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !r.MaySubscribe("x.z.y.a.*") {
			b.Fatal("refused")
		}
	}
}
