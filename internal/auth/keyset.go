package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
)

// maxSetKeys bounds the keys of a JWK set.
const maxSetKeys = 256

// parseKeySet reads a JWK set (RFC 7517 section 5). Keys of other kinds, for
// other uses, too weak or broken are left out, as that section asks for: an
// issuer's set may have what this program has no use for. A set without any
// that is of use is an error.
func parseKeySet(text []byte) ([]key, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("is no JWK set: it must be JSON with an array keys")
	}
	if len(set.Keys) > maxSetKeys {
		return nil, fmt.Errorf("has %d keys, of at most %d", len(set.Keys), maxSetKeys)
	}
	var keys []key
	var why error
	for _, published := range set.Keys {
		k, err := parseSetKey(published)
		if err != nil {
			why = err
			continue
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) > 0:
		return keys, nil
	case why != nil:
		return nil, fmt.Errorf("has no key for %v; the last %w", algorithms, why)
	}
	return nil, errors.New("is a JWK set without keys")
}

func parseSetKey(published jwkset.JWKMarshal) (key, error) {
	if published.USE != "" && published.USE != jwkset.UseSig ||
		len(published.KEYOPS) > 0 && !slices.Contains(published.KEYOPS, jwkset.KeyOpsVerify) {
		return key{}, errors.New("is not for signatures")
	}
	// What makes a public key, and nothing else: certificates and the addresses
	// of certificates say nothing here.
	bare := jwkset.JWKMarshal{
		KTY: published.KTY, CRV: published.CRV, X: published.X, Y: published.Y, N: published.N, E: published.E,
	}
	parsed, err := jwkset.NewJWKFromMarshal(bare, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipAll: true})
	if err != nil {
		return key{}, fmt.Errorf("is none that can be read: %w", err)
	}
	k, err := publicKey(parsed.Key())
	if err != nil {
		return key{}, err
	}
	if published.ALG != "" && string(published.ALG) != k.algorithm {
		return key{}, fmt.Errorf("is for %s", published.ALG)
	}
	k.id = published.KID
	return k, nil
}
