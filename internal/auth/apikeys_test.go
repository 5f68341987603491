package auth

import (
	"context"
	"regexp"
	"strings"
	"testing"
)

func TestAPIKeys(t *testing.T) {
	first, hash := NewAPIKey()
	second, other := NewAPIKey()
	if form := regexp.MustCompile(`^pushd_[0-9a-f]{64}$`); !form.MatchString(first) || first == second || hash == other {
		t.Fatalf("%s and %s", first, second)
	}
	s := openService(t, Config{APIKeys: []APIKey{
		{Name: "billing", Hash: hash, Permissions: Permissions{Publish: []string{"orders.>"}}},
		{Name: "billing", Hash: hashPrefix + strings.ToUpper(other[len(hashPrefix):]), Permissions: Permissions{Publish: []string{"orders.>"}}},
	}})
	var grants []Grant
	for _, plain := range []string{first, second} {
		grant, err := s.Authenticate(context.Background(), Credentials{Bearer: plain})
		if err != nil || grant.Identity != "billing" || !grant.Expires.IsZero() || !grant.Rights.MayPublish("orders.eu") || grant.Rights.MaySubscribe("orders.eu") {
			t.Errorf("%+v, %v", grant, err)
		}
		grants = append(grants, grant)
	}
	if grants[0].Rights != grants[1].Rights {
		t.Error("equal rights are two")
	}
	for bearer, want := range map[string]Reason{
		first[:len(first)-1]:                   UnknownKey,
		first + "0":                            UnknownKey,
		strings.ToUpper(first[:6]) + first[6:]: Malformed, // no API key, and no token either
		apiKeyPrefix:                           UnknownKey,
		apiKeyPrefix + hash:                    UnknownKey, // the hash is of no use
		hash:                                   Malformed,
		apiKeyPrefix + strings.Repeat("a", maxToken): TooLarge,
	} {
		if got := reasonOf(t, s, bearer); got != want {
			t.Errorf("%.80s: %q, want %q", bearer, got, want)
		}
	}
}

func TestAPIKeyMistakes(t *testing.T) {
	_, hash := NewAPIKey()
	for _, test := range []struct {
		keys []APIKey
		want string
	}{
		{[]APIKey{{Hash: hash}}, "api_keys[0].name: is empty"},
		{[]APIKey{{Name: "a", Hash: hash[1:]}}, "api_keys[0].hash: must be sha256: and 64 hexadecimal digits, as pushd key NAME prints it"},
		{[]APIKey{{Name: "a", Hash: hash[:len(hash)-1] + "g"}}, "api_keys[0].hash: must be sha256: and 64 hexadecimal digits, as pushd key NAME prints it"},
		{[]APIKey{{Name: "a", Hash: hash}, {Name: "b", Hash: hash}}, "api_keys[1].hash: is the same as that of a key before it"},
		{[]APIKey{{Name: "a", Hash: hash, Permissions: Permissions{Subscribe: []string{""}}}}, `api_keys[0]: subscribe: pattern "" is empty`},
	} {
		if _, err := Open(Config{APIKeys: test.keys}); err == nil || err.Error() != test.want {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}
