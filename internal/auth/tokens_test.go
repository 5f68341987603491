package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestTokenGrants(t *testing.T) {
	i := keysOf()
	s := i.openAll(t, Config{Issuer: "https://issuer.example", Audience: "pushd", Leeway: 5 * time.Second})
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	for _, algorithm := range algorithms {
		claims := claimMap(map[string]any{
			"iss": "https://issuer.example", "aud": []string{"other", "pushd"}, "exp": float64(expires.Unix()) + 0.5,
			"nbf": time.Now().Unix(), "iat": time.Now().Add(3 * time.Second).Unix(), "else": nil,
		})
		grant, err := s.Authenticate(context.Background(), Credentials{Bearer: i.sign(t, algorithm, claims, map[string]any{"kid": "no key has one"})})
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		if grant.Identity != "alice" || !grant.Expires.Equal(expires.Add(5*time.Second)) {
			t.Errorf("%s: %+v", algorithm, grant)
		}
		r := grant.Rights
		if !r.MaySubscribe("stocks.a.*") || r.MaySubscribe("chat.alice.x") || !r.MayPublish("chat.alice.x") || r.MayPublish("stocks.a") {
			t.Errorf("%s: %+v", algorithm, r)
		}
	}
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
}

// A token without the claim says who its bearer is, and permits nothing.
func TestTokenWithoutRights(t *testing.T) {
	i := keysOf()
	s := i.openAll(t, Config{})
	for _, rights := range []any{nil, map[string]any{}, map[string]any{"publish": []string{}}} {
		grant, err := s.Authenticate(context.Background(), Credentials{Bearer: i.sign(t, "HS256", claimMap(map[string]any{"pushd": rights}), nil)})
		if err != nil || grant.Rights == nil || grant.Rights.MaySubscribe("a") || grant.Rights.MayPublish("a") {
			t.Errorf("%v: %+v, %v", rights, grant, err)
		}
	}
}

// TestTokenClaims shows each claim that is refused, in a token that is signed
// as it should be.
func TestTokenClaims(t *testing.T) {
	i := keysOf()
	s := i.openAll(t, Config{Issuer: "me", Audience: "you", Leeway: 5 * time.Second})
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	rights := func(subscribe any) map[string]any {
		return map[string]any{"pushd": map[string]any{"subscribe": subscribe}}
	}
	many := make([]string, MaxPermissions+1)
	for n := range many {
		many[n] = "a"
	}
	for _, test := range []struct {
		name    string
		changes map[string]any
		want    Reason
	}{
		{"good", nil, ""},
		{"within the leeway", map[string]any{"exp": in(-2 * time.Second), "nbf": in(2 * time.Second), "iat": in(2 * time.Second)}, ""},
		{"expired", map[string]any{"exp": in(-10 * time.Second)}, Expired},
		{"expired in 1970", map[string]any{"exp": 0}, Expired},
		{"no exp", map[string]any{"exp": nil}, BadClaims},
		{"exp as string", map[string]any{"exp": fmt.Sprint(in(time.Hour))}, BadClaims},
		{"exp null", map[string]any{"exp": jwtNull{}}, BadClaims},
		{"exp true", map[string]any{"exp": true}, BadClaims},
		{"exp negative", map[string]any{"exp": -1}, BadClaims},
		{"exp in milliseconds", map[string]any{"exp": now.UnixMilli()}, BadClaims},
		{"exp huge", map[string]any{"exp": 1e300}, BadClaims},
		{"exp float", map[string]any{"exp": float64(in(time.Hour)) + 0.25}, ""},
		{"nbf in the future", map[string]any{"nbf": in(time.Minute)}, NotYetValid},
		{"nbf as string", map[string]any{"nbf": "0"}, BadClaims},
		{"iat in the future", map[string]any{"iat": in(time.Minute)}, NotYetValid},
		{"iat as array", map[string]any{"iat": []int{1}}, BadClaims},
		{"other issuer", map[string]any{"iss": "Me"}, BadIssuer},
		{"no issuer", map[string]any{"iss": nil}, BadIssuer},
		{"neither issuer nor audience", map[string]any{"iss": nil, "aud": nil}, BadIssuer},
		{"issuer as array", map[string]any{"iss": []string{"me"}}, BadClaims},
		{"other audience", map[string]any{"aud": "you "}, BadAudience},
		{"no audience", map[string]any{"aud": nil}, BadAudience},
		{"empty audience", map[string]any{"aud": []string{}}, BadAudience},
		{"audience as array", map[string]any{"aud": []string{"them", "you"}}, ""},
		{"other audiences", map[string]any{"aud": []string{"them", "us"}}, BadAudience},
		{"audience as number", map[string]any{"aud": 1}, BadClaims},
		{"audience of numbers", map[string]any{"aud": []any{"you", 1}}, BadClaims},
		{"no sub", map[string]any{"sub": nil}, BadClaims},
		{"empty sub", map[string]any{"sub": ""}, BadClaims},
		{"sub as number", map[string]any{"sub": 7}, BadClaims},
		{"sub null", map[string]any{"sub": jwtNull{}}, BadClaims},
		{"long sub", map[string]any{"sub": strings.Repeat("a", 257)}, BadClaims},
		{"longest sub", map[string]any{"sub": strings.Repeat("a", 256)}, ""},
		{"sub with a line end", map[string]any{"sub": "a\nb"}, BadClaims},
		{"sub with a C1 control", map[string]any{"sub": "a\u0085b"}, BadClaims},
		{"name in capitals is another", map[string]any{"SUB": "eve", "Exp": 1}, ""},
		{"rights as array", map[string]any{"pushd": []string{"a"}}, BadClaims},
		{"rights null", map[string]any{"pushd": jwtNull{}}, BadClaims},
		{"rights of another name", map[string]any{"pushd": map[string]any{"read": []string{"a"}}}, BadClaims},
		{"one string", rights("a"), BadClaims},
		{"null in a list", rights([]any{"a", nil}), BadClaims},
		{"a list null", rights(jwtNull{}), BadClaims},
		{"a list of lists", rights([]any{[]string{"a"}}), BadClaims},
		{"no pattern", rights([]string{"a", "a..b"}), BadClaims},
		{"everything", rights([]string{">"}), ""},
		{"too many", rights(many), BadClaims},
	} {
		claims := claimMap(map[string]any{"iss": "me", "aud": "you"})
		for name, value := range test.changes {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
		if got := reasonOf(t, s, i.sign(t, "HS256", claims, nil)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// jwtNull is a claim that is there, and null.
type jwtNull struct{}

func (jwtNull) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// part is a part of a token.
func part(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signedBy makes a token by HMAC from any two texts.
func signedBy(secret, header, claims string) string {
	text := part(header) + "." + part(claims)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestTokenAttacks shows what is refused before any claim is looked at.
func TestTokenAttacks(t *testing.T) {
	i, eve := keysOf(), newIssuer()
	s := i.openAll(t, Config{})
	good := i.sign(t, "ES256", claimMap(nil), nil)
	parts := strings.Split(good, ".")
	claims := fmt.Sprintf(`{"sub":"eve","exp":%d,"pushd":{"subscribe":[">"]}}`, time.Now().Add(time.Hour).Unix())
	const hs256 = `{"alg":"HS256"}`
	for _, test := range []struct {
		name, token string
		want        Reason
	}{
		{"good", good, ""},
		{"nothing", "", Missing},

		// The algorithm.
		{"none", part(`{"alg":"none"}`) + "." + part(claims) + ".", BadAlgorithm},
		{"None", part(`{"alg":"None"}`) + "." + part(claims) + ".", BadAlgorithm},
		{"nOnE", part(`{"alg":"nOnE"}`) + "." + part(claims) + "." + parts[2], BadAlgorithm},
		{"none, empty", part(`{"alg":""}`) + "." + part(claims) + ".", BadAlgorithm},
		{"none at all", part(`{"typ":"JWT"}`) + "." + part(claims) + "." + parts[2], BadAlgorithm},
		{"an algorithm that is no string", part(`{"alg":["HS256"]}`) + "." + part(claims) + "." + parts[2], BadAlgorithm},
		{"hs256 in small letters", signedBy(testSecret, `{"alg":"hs256"}`, claims), BadAlgorithm},
		{"HS384", i.sign(t, "HS384", claimMap(nil), nil), BadAlgorithm},
		{"RS384", i.sign(t, "RS384", claimMap(nil), nil), BadAlgorithm},
		{"PS256", i.sign(t, "PS256", claimMap(nil), nil), BadAlgorithm},
		{"the last of two algorithms", signedBy(testSecret, `{"alg":"HS256","alg":"none"}`, claims), BadAlgorithm},
		{"HS256 with the RSA public key as secret", signedBy(publicPEM(t, i.rsa), hs256, claims), BadSignature},
		{"HS256 with the EC public key as secret", signedBy(publicPEM(t, i.ec), hs256, claims), BadSignature},
		{"HS256 with the Ed25519 public key as secret", signedBy(publicPEM(t, i.ed25519), hs256, claims), BadSignature},

		// The key.
		{"a key of her own", eve.sign(t, "ES256", claimMap(nil), nil), BadSignature},
		{"RSA of her own", eve.sign(t, "RS256", claimMap(nil), nil), BadSignature},
		{"embedded", eve.sign(t, "EdDSA", claimMap(nil), map[string]any{"jwk": map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(eve.ed25519[32:])}}), BadSignature},
		{"referred to", eve.sign(t, "RS256", claimMap(nil), map[string]any{"jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/cert"}), BadSignature},
		{"a good one that names another", i.sign(t, "RS256", claimMap(nil), map[string]any{"jku": "http://127.0.0.1:1/keys", "jwk": map[string]any{}, "x5c": []string{"x"}}), ""},
		{"a kid that is a path", signedBy("", `{"alg":"HS256","kid":"/dev/null"}`, claims), BadSignature},
		{"a kid that is no string", signedBy(testSecret, `{"alg":"HS256","kid":7}`, claims), Malformed},
		{"a kid that is null", signedBy(testSecret, `{"alg":"HS256","kid":null}`, claims), Malformed},
		{"critical", signedBy(testSecret, `{"alg":"HS256","crit":["exp"],"exp":1}`, claims), Malformed},
		{"critical, unencoded", signedBy(testSecret, `{"alg":"HS256","crit":["b64"],"b64":false}`, claims), Malformed},
		{"critical, empty", signedBy(testSecret, `{"alg":"HS256","crit":[]}`, claims), Malformed},

		// The signature.
		{"other claims", parts[0] + "." + part(claims) + "." + parts[2], BadSignature},
		{"no signature", parts[0] + "." + parts[1] + ".", BadSignature},
		{"a shorter one", parts[0] + "." + parts[1] + "." + parts[2][:40], BadSignature},
		{"zeros", parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86), BadSignature},

		// The form.
		{"one part", "abc", Malformed},
		{"two parts", parts[0] + "." + parts[1], Malformed},
		{"four parts", good + ".", Malformed},
		{"five parts, encrypted", good + ".a.b", Malformed},
		{"dots", "..", Malformed},
		{"many dots", strings.Repeat(".", 8000), Malformed},
		{"padding", good + "==", Malformed},
		{"trailing garbage", good + "x", Malformed},
		{"trailing space", good + " ", Malformed},
		{"a line end within", parts[0] + ".\n" + parts[1] + "." + parts[2], Malformed},
		{"base64 of another alphabet", parts[0] + "." + parts[1] + ".+/", Malformed},
		{"garbage behind the claims", signedBy(testSecret, hs256, claims+"{}"), Malformed},
		{"garbage behind the header", signedBy(testSecret, hs256+"x", claims), Malformed},
		{"a header that is no object", signedBy(testSecret, `"HS256"`, claims), Malformed},
		{"a header that is null", signedBy(testSecret, `null`, claims), BadAlgorithm},
		{"claims that are no object", signedBy(testSecret, hs256, `[]`), Malformed},
		{"claims that are null", signedBy(testSecret, hs256, `null`), BadClaims},
		{"no JSON", signedBy(testSecret, hs256, `sub=eve`), Malformed},
		{"deep", signedBy(testSecret, hs256, claims[:len(claims)-1]+`,"x":`+strings.Repeat("[", 2500)+strings.Repeat("]", 2500)+"}"), ""},
		{"deep, and no end", signedBy(testSecret, hs256, `{"sub":`+strings.Repeat("[", 5000)), Malformed},
		{"deep where text should be", signedBy(testSecret, hs256, `{"sub":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+"}"), BadClaims},
		{"a claim twice: the last counts", signedBy(testSecret, hs256, `{"exp":99999999999,`+claims[1:len(claims)-1]+`,"exp":1}`), Expired},
		{"the largest", i.sign(t, "HS256", claimMap(map[string]any{"x": strings.Repeat("a", 5800)}), nil), ""},
		{"oversized", i.sign(t, "HS256", claimMap(map[string]any{"x": strings.Repeat("a", 6200)}), nil), TooLarge},
		{"oversized garbage", strings.Repeat("\x00", 1<<20), TooLarge},
	} {
		if got := reasonOf(t, s, test.token); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A key is for one algorithm, also where there are keys of one alone.
func TestTokenOfOtherAlgorithm(t *testing.T) {
	i := keysOf()
	services := map[string]*Service{"HS256": openService(t, Config{Secret: testSecret})}
	for _, algorithm := range algorithms[1:] {
		services[algorithm] = openService(t, Config{KeyFiles: []string{writeFile(t, publicPEM(t, i.private(algorithm)))}})
	}
	for accepted, s := range services {
		for _, algorithm := range algorithms {
			want := BadAlgorithm
			if algorithm == accepted {
				want = ""
			}
			if got := reasonOf(t, s, i.sign(t, algorithm, claimMap(nil), nil)); got != want {
				t.Errorf("%s to keys of %s: %q, want %q", algorithm, accepted, got, want)
			}
		}
		if accepted != "HS256" {
			forged := signedBy(publicPEM(t, i.private(accepted)), `{"alg":"HS256"}`, `{"sub":"eve","exp":99999999999}`)
			if got := reasonOf(t, s, forged); got != BadAlgorithm {
				t.Errorf("the public key of %s is a secret: %q", accepted, got)
			}
		}
	}
	if got := reasonOf(t, openService(t, Config{APIKeys: []APIKey{{Name: "a", Hash: HashAPIKey("x")}}}), i.sign(t, "HS256", jwt.MapClaims{}, nil)); got != BadAlgorithm {
		t.Errorf("a token where there are API keys alone: %q", got)
	}
}
