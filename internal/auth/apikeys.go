package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	apiKeyPrefix  = "pushd_"  // by which it is told from a token, and found where it was published by mistake
	apiKeyEntropy = 32        // bytes
	hashPrefix    = "sha256:" // of a hash in the configuration
)

// APIKey is a key as the configuration has it: without the key itself.
type APIKey struct {
	Name string // the identity of whoever shows it; two keys may have one, while one replaces the other
	Hash string // sha256: and 64 hexadecimal digits
	Permissions
}

// NewAPIKey makes a key from 32 random bytes, and the hash for the
// configuration. A plain hash will do: what makes hashes of passwords slow
// is of use against guessing, and there are 2^256 keys to guess.
func NewAPIKey() (plain, hash string) {
	random := make([]byte, apiKeyEntropy)
	_, _ = rand.Read(random) // never fails: the program ends instead
	plain = apiKeyPrefix + hex.EncodeToString(random)
	return plain, HashAPIKey(plain)
}

// HashAPIKey returns what the configuration has of a key.
func HashAPIKey(plain string) string {
	hash := sha256.Sum256([]byte(plain))
	return hashPrefix + hex.EncodeToString(hash[:])
}

// ParseAPIKeyHash reads what [HashAPIKey] wrote.
func ParseAPIKeyHash(text string) (hash [sha256.Size]byte, err error) {
	digits, ok := strings.CutPrefix(text, hashPrefix)
	if ok && len(digits) == hex.EncodedLen(len(hash)) {
		if _, err := hex.Decode(hash[:], []byte(digits)); err == nil {
			return hash, nil
		}
	}
	return hash, fmt.Errorf("must be %s and 64 hexadecimal digits, as pushd key NAME prints it", hashPrefix)
}

// apiKeys are grants by the hash of the key. That a map takes a different time
// for different hashes tells nothing: whoever tries keys cannot choose the
// hashes that they have, and to learn one would not give the key.
type apiKeys map[[sha256.Size]byte]Grant

func newAPIKeys(configured []APIKey, interned *interner) (apiKeys, error) {
	keys := make(apiKeys, len(configured))
	for i, k := range configured {
		where := fmt.Sprintf("api_keys[%d]", i)
		if err := CheckIdentity(k.Name); err != nil {
			return nil, describe(where+".name", err)
		}
		hash, err := ParseAPIKeyHash(k.Hash)
		if err != nil {
			return nil, describe(where+".hash", err)
		}
		if _, twice := keys[hash]; twice {
			return nil, fmt.Errorf("%s.hash: is the same as that of a key before it", where)
		}
		rights, err := interned.rights(k.Subscribe, k.Publish)
		if err != nil {
			return nil, describe(where, err)
		}
		keys[hash] = Grant{Identity: k.Name, Rights: rights}
	}
	return keys, nil
}

func (keys apiKeys) authenticate(plain string) (Grant, *Error) {
	if len(plain) > maxToken {
		return Grant{}, refuse(TooLarge, "the API key has %d bytes, of at most %d", len(plain), maxToken)
	}
	grant, ok := keys[sha256.Sum256([]byte(plain))]
	if !ok {
		return Grant{}, refuse(UnknownKey, "nobody knows this API key")
	}
	return grant, nil
}
